"""What executors said of a unit that they differed on, as `Job.disagreements` tells it."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from typing import Any

from meshd_protocol.errors import ProtocolError
from meshd_protocol.values import Resolve, decode, decode_exception
from meshd_sdk.results import loaded_class


@dataclass(frozen=True, slots=True)
class Vote:
    """What one node sent: `value` is what the function returned, or the exception if it `raised`.

    Where there is none, `unreadable` says why: it was too large to be kept, or no value at all.
    """

    node: str
    name: str
    agreed: bool
    raised: bool
    value: Any
    unreadable: str = ""


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Copies of one unit that differed. `settled`: a quorum agreed, and what it said was accepted."""

    unit: int
    settled: bool
    votes: tuple[Vote, ...]

    @property
    def accepted(self) -> Any:
        """What the quorum said; `None` if there was none."""
        return next((vote.value for vote in self.votes if vote.agreed), None)

    @property
    def outvoted(self) -> tuple[Vote, ...]:
        """The votes of nodes that sent something else than what was accepted."""
        return tuple(vote for vote in self.votes if self.settled and not vote.agreed)


def read_disagreement(told: dict[str, Any], resolve: Resolve = loaded_class) -> Disagreement:
    """Read one of the `disagreements` that `meshd job --json` prints. Classes of values come from `resolve` alone."""
    results = {digest: _read_result(result, resolve) for digest, result in told["results"].items()}
    votes = [Vote(vote["node"], vote["name"], vote["agreed"], *results[vote["digest"]]) for vote in told["votes"]]
    return Disagreement(told["unit"], told["accepted"] is not None, tuple(votes))


def _read_result(result: dict[str, Any], resolve: Resolve) -> tuple[bool, Any, str]:
    raised = result["status"] == "raised"
    if result["value"] is None:
        return raised, None, f"its {result['bytes']} bytes were too many to be kept"
    data = base64.b64decode(result["value"])
    try:
        return raised, (decode_exception if raised else decode)(data, resolve), ""
    except (ProtocolError, MemoryError, RecursionError) as error:
        return raised, None, str(error)
