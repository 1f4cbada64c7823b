"""Receipts as executors make them and owners check them, over the simulator's cheap keys."""

from collections.abc import Sequence

from meshd_protocol import merkle
from meshd_protocol.errors import BadSignature
from meshd_protocol.ids import Digest, JobId, NodeId, result_digests
from meshd_protocol.messages.attempts import AttemptResult
from meshd_protocol.messages.peer import ResultBatch
from meshd_protocol.records import CageLevel, Receipt, decode_record, encode_record
from meshd_protocol.signing import Domain
from meshd_sim.process import Process


def sign_results(process: Process, owner: NodeId, job: JobId, epoch: int, results: list[AttemptResult]) -> ResultBatch:
    """One signature for the whole batch."""
    receipt = Receipt(
        job, process.node, owner, epoch, CageLevel.NONE, len(results), _root(results, digests_of(results))
    )
    return ResultBatch(job, process.sign(Domain.RECEIPT, encode_record(receipt)), results)


def check_results(process: Process, executor: NodeId, batch: ResultBatch) -> tuple[int, list[Digest]]:
    """The epoch and the digests, if the executor signed exactly these results for us; else raise `BadSignature`."""
    receipt = decode_record(Receipt, process.verify(executor, Domain.RECEIPT, batch.receipt))
    if (receipt.job, receipt.executor, receipt.owner) != (batch.job, executor, process.node):
        raise BadSignature("the receipt is for another job, executor or owner")
    digests = digests_of(batch.results)
    if receipt.count != len(batch.results) or receipt.root != _root(batch.results, digests):
        raise BadSignature("the receipt does not cover these results")
    return receipt.epoch, digests


def digests_of(results: Sequence[AttemptResult]) -> list[Digest]:
    """What each result is compared by."""
    return result_digests([(result.status, result.value) for result in results])


def _root(results: Sequence[AttemptResult], digests: Sequence[Digest]) -> Digest:
    return merkle.root(
        [
            merkle.leaf(result.index, result.attempt, result.status, result.took_us, digest)
            for result, digest in zip(results, digests, strict=True)
        ]
    )
