"""What a node that cheats in the protocol sends beside its results."""

import random
from collections.abc import Callable
from typing import Final, TypeAlias

from meshd_protocol.ids import NodeId
from meshd_protocol.messages.attempts import AttemptResult, AttemptStatus
from meshd_protocol.messages.peer import ResultBatch
from meshd_protocol.records import Receipt, decode_record
from meshd_protocol.signing import Signed
from meshd_sim.jobs.receipts import sign_results
from meshd_sim.process import Process

Trick: TypeAlias = Callable[[Process, NodeId, ResultBatch, list[ResultBatch], random.Random], ResultBatch]


def spoil(
    process: Process, owner: NodeId, batch: ResultBatch, before: list[ResultBatch], rng: random.Random
) -> ResultBatch:
    """One trick, made of an honest batch and of those `before` it in this session."""
    return rng.choice(_TRICKS)(process, owner, batch, before, rng)


def _again(
    process: Process, owner: NodeId, batch: ResultBatch, before: list[ResultBatch], rng: random.Random
) -> ResultBatch:
    """The same, or an older one, once more."""
    return rng.choice([batch, *before])


def _uncovered(
    process: Process, owner: NodeId, batch: ResultBatch, before: list[ResultBatch], rng: random.Random
) -> ResultBatch:
    """Other results under the same receipt."""
    return ResultBatch(batch.job, batch.receipt, [_claim(result.index, result.attempt) for result in batch.results])


def _unsigned(
    process: Process, owner: NodeId, batch: ResultBatch, before: list[ResultBatch], rng: random.Random
) -> ResultBatch:
    """A receipt that nobody signed."""
    return ResultBatch(batch.job, Signed(batch.receipt.body, rng.randbytes(64)), batch.results)


def _unasked(
    process: Process, owner: NodeId, batch: ResultBatch, before: list[ResultBatch], rng: random.Random
) -> ResultBatch:
    """Well signed, for units and attempts that others may have."""
    claims = [_claim(index, rng.randrange(4)) for index in range(rng.randint(1, 40))]
    return sign_results(process, owner, batch.job, _epoch(batch), claims)


def _of_another_epoch(
    process: Process, owner: NodeId, batch: ResultBatch, before: list[ResultBatch], rng: random.Random
) -> ResultBatch:
    """Well signed, in an epoch that this owner never had."""
    return sign_results(process, owner, batch.job, _epoch(batch) + 1, batch.results)


def _reworded(
    process: Process, owner: NodeId, batch: ResultBatch, before: list[ResultBatch], rng: random.Random
) -> ResultBatch:
    """A second answer to what was answered just now."""
    claims = [_claim(result.index, result.attempt) for result in batch.results]
    return sign_results(process, owner, batch.job, _epoch(batch), claims)


_TRICKS: Final[list[Trick]] = [_again, _uncovered, _unsigned, _unasked, _of_another_epoch, _reworded]


def _claim(index: int, attempt: int) -> AttemptResult:
    return AttemptResult(index, attempt, AttemptStatus.RETURNED, b"cheated %d" % index)


def _epoch(batch: ResultBatch) -> int:
    return decode_record(Receipt, batch.receipt.body).epoch
