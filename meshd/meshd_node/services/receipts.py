"""Receipts: made over a batch of results by their executor, checked by their owner. Spec: 06-records.md, section 4."""

from collections.abc import Sequence

from meshd_node.seams import Signer
from meshd_protocol import ids, merkle
from meshd_protocol.certificates import Certified
from meshd_protocol.errors import BadSignature
from meshd_protocol.ids import Digest, JobId, NodeId
from meshd_protocol.messages.attempts import AttemptResult
from meshd_protocol.messages.peer import ResultBatch
from meshd_protocol.records import CageLevel, Receipt, decode_record, encode_record
from meshd_protocol.signing import Domain, verify


def result_digests(results: Sequence[AttemptResult]) -> list[Digest]:
    """What each result is compared by."""
    return ids.result_digests([(result.status, result.value) for result in results])


def sign_results(
    signer: Signer,
    executor: NodeId,
    owner: NodeId,
    job: JobId,
    epoch: int,
    results: list[AttemptResult],
    cage: CageLevel = CageLevel.NONE,
) -> ResultBatch:
    """One signature for the whole batch, one leaf for each result."""
    root = _root(results, result_digests(results))
    receipt = Receipt(job, executor, owner, epoch, cage, len(results), root)
    return ResultBatch(job, signer.sign(Domain.RECEIPT, encode_record(receipt)), results)


def check_results(executor: Certified, owner: NodeId, batch: ResultBatch) -> tuple[int, list[Digest]]:
    """Return the epoch and the results' digests if the executor signed exactly these results for this owner.

    Raise `BadSignature` if not: a lying relay is impossible on a direct link, so it is the executor itself.
    """
    receipt = decode_record(Receipt, verify(executor.key, Domain.RECEIPT, batch.receipt))
    if (receipt.job, receipt.executor, receipt.owner) != (batch.job, executor.node, owner):
        raise BadSignature("the receipt is for another job, executor or owner")
    digests = result_digests(batch.results)
    if receipt.count != len(batch.results) or receipt.root != _root(batch.results, digests):
        raise BadSignature("the receipt does not cover these results")
    return receipt.epoch, digests


def _root(results: Sequence[AttemptResult], digests: Sequence[Digest]) -> Digest:
    return merkle.root(
        [
            merkle.leaf(result.index, result.attempt, result.status, result.took_us, digest)
            for result, digest in zip(results, digests, strict=True)
        ]
    )
