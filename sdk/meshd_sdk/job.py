"""A job with a name and an id: it outlives the program, and any program of the same user finds its results again."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from meshd_protocol.ids import JobId, to_text
from meshd_protocol.messages.local import Ask, AttachJob, CancelJob, Outcome, Question
from meshd_sdk.futures import MeshFuture
from meshd_sdk.link import Link
from meshd_sdk.session import Session
from meshd_sdk.stream import UnitStream

if TYPE_CHECKING:
    from meshd_sdk.disagreements import Disagreement


class Job:
    """Made by `Mesh.job` and `Mesh.attach`. Results are kept here for as long as this object is."""

    def __init__(self, session: Session, stream: UnitStream) -> None:
        self._session = session
        self._stream = stream
        self._futures = stream.all

    def __repr__(self) -> str:
        opened = self._stream.opened
        return f"<Job {self.id if opened.done() and not opened.exception() else 'that is being opened'}>"

    @property
    def id(self) -> str:
        """What `Mesh.attach` and `meshd job` take. Waits until the daemon has named the job."""
        return to_text(self._id)

    @property
    def state(self) -> str:
        """`done`, `failed` (some unit did) or `cancelled` once it has ended, else what the daemon says."""
        ended = self._stream.ended
        if ended.done() and not ended.exception():
            return ended.result().state
        return str(self.progress()["state"])

    @property
    def _id(self) -> JobId:
        return self._stream.opened.result()

    def progress(self) -> dict[str, Any]:
        """What the daemon knows: `units`, `done`, `failed`, `state` and more, as `meshd job --json` prints it."""
        return self._ask(Question.JOB)

    def results(self) -> Iterator[Any]:
        """Yield every unit's result in the order of the inputs, waiting for each; raise what a unit raised."""
        for future in self._in_order():
            yield future.result()

    def as_completed(self) -> Iterator[tuple[int, MeshFuture[Any]]]:
        """Yield (index of the input, its done future) as units end. A unit that raised does not end the iteration."""
        seen = 0
        while True:
            known: list[concurrent.futures.Future[Any]] = [*self._futures[seen:]]
            seen += len(known)
            for future in concurrent.futures.as_completed(known):
                assert isinstance(future, MeshFuture)
                yield future.index, future
            if not known:
                self._stream.ended.result()
                if seen == len(self._futures):
                    return

    def cancel(self) -> None:
        """Cancel every unit that has not ended."""
        self._session.ask(CancelJob(self._id))

    def why(self, index: int | None = None) -> dict[str, Any]:
        """Why the job, or the unit of this input, waits, and why its result is believed."""
        if index is not None and index < 0:
            raise ValueError(f"the index of an input is 0 or more, not {index}")
        return self._ask(Question.WHY, -1 if index is None else index)

    def disagreements(self) -> list[Disagreement]:
        """Units whose copies differed, the latest that the daemon keeps: who said what, and who was outvoted.

        `progress()` counts all of them: units as `disagreed`, results by node as `outvoted`.
        """
        from meshd_sdk.disagreements import read_disagreement  # noqa: PLC0415  # loads the codec of results

        return [read_disagreement(each) for each in self._ask(Question.JOB).get("disagreements", ())]

    def _ask(self, question: Question, index: int = -1) -> dict[str, Any]:
        answer: dict[str, Any] = self._session.ask(Ask(question, self._id, index))
        return answer

    def _in_order(self) -> Iterator[MeshFuture[Any]]:
        seen = 0
        while True:
            while seen < len(self._futures):
                yield self._futures[seen]
                seen += 1
            self._stream.ended.result()  # an attached job learns of its units as they end
            if seen == len(self._futures):
                return


class AttachedStream(UnitStream):
    """The stream of a job that this program did not submit: its units are known by their ends."""

    def __init__(self, link: Link, job: JobId, units: int) -> None:
        super().__init__(link, AttachJob(job), kept=True)
        self._grow(units)
        link.flush()  # no unit follows that would

    def unknown(self, outcome: Outcome) -> None:
        """A unit that was submitted after this program asked how many there are."""
        from meshd_sdk.results import settle  # noqa: PLC0415  # as in UnitStream

        self._grow(outcome.index + 1)
        settle(self.futures.pop(outcome.index), outcome)

    def _grow(self, units: int) -> None:
        for index in range(len(self.all), units):
            future: MeshFuture[Any] = MeshFuture(self, None)
            future.index = index
            self.all.append(future)
            self.futures[index] = future
        self.count = max(self.count, len(self.all))
