"""A program's way to its daemon: a path, and the link to it that is alive now."""

from __future__ import annotations

import json
import threading
from concurrent.futures import Future, InvalidStateError
from typing import Any, Final

from meshd_protocol.errors import UnexpectedMessage
from meshd_protocol.framing import Message
from meshd_protocol.ids import JobId
from meshd_protocol.messages.local import Answer, Ask, CancelJob, Denial, Drain, Reload, Revoke
from meshd_sdk import lifetime
from meshd_sdk.errors import MeshClosed, MeshError, MeshLost, MeshRefused, MeshUnavailable
from meshd_sdk.link import Link
from meshd_sdk.stream import UnitStream

# The slowest answer is a lookup's, which the daemon ends after 15 s.
_ANSWER_S: Final = 30.0


class Session:
    """Connects on the first use, and anew on the first use after a link was lost, or after a fork."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._link: Link | None = None
        self._closed = False
        lifetime.watch(self)

    def __del__(self) -> None:
        """Nobody can submit any more: what is under way may finish."""
        if self._link is not None:
            self._link.close()

    def link(self) -> Link:
        """The live link. Raise `MeshUnavailable` without a daemon, `MeshClosed` when it is too late."""
        if lifetime.is_ending():
            raise MeshClosed("cannot schedule new futures after interpreter shutdown")
        with self._lock:
            if self._closed:
                raise MeshClosed("cannot schedule new futures after shutdown")
            if self._link is None or not self._link.is_open:
                self._link = Link.connect(self.path)
            return self._link

    def ask(self, question: Ask | CancelJob | Drain | Reload | Revoke) -> Any:
        """Put a question on a stream of its own and wait for the answer, which is JSON.

        Raise `MeshUnavailable` if none comes: a daemon that is stopped as by Ctrl-Z still takes connections.
        """
        link = self.link()
        if link.is_current_thread:
            raise RuntimeError("a future's callback can not wait for the daemon: ask from another thread")
        waiting = _Question(link)
        link.open(question, waiting.numbered)
        link.flush()
        try:
            return waiting.answer.result(_ANSWER_S)
        except TimeoutError as error:
            waiting.give_up()
            text = f"the daemon at {self.path} did not answer within {_ANSWER_S:g} s: it is overloaded or stopped"
            raise MeshUnavailable(text) from error

    def job_stream(self, job: JobId) -> UnitStream | None:
        """The stream on which this program follows the job already: the daemon tells a job's outcomes once."""
        for stream in self._unit_streams():
            if stream.is_kept and stream.opened.done() and stream.opened.result() == job:
                return stream
        return None

    def close(self, *, wait: bool, cancel: bool) -> None:
        """Let what was begun finish, or cancel it; wait for it if asked to; hang up."""
        with self._lock:
            self._closed = True
            link = self._link
        if link is None:
            return
        for stream in self._unit_streams():
            if cancel and not stream.is_kept:
                stream.cancel_all()
            stream.close()
        link.close()
        if wait:
            link.join()

    def at_exit(self) -> None:
        """The link waits for its units by itself."""

    def after_fork(self) -> None:
        """The child connects by itself."""
        self._lock = threading.Lock()
        self._link = None

    def _unit_streams(self) -> list[UnitStream]:
        receivers = [] if self._link is None else self._link.receivers()
        return [receiver for receiver in receivers if isinstance(receiver, UnitStream)]


class _Question:
    """One question's stream."""

    def __init__(self, link: Link) -> None:
        self.answer: Future[Any] = Future()
        self._link = link
        self._stream = 0

    def numbered(self, stream: int) -> _Question:
        self._stream = stream
        return self

    def give_up(self) -> None:
        """An answer that still comes is of no interest, and the link need not wait for it."""
        self._link.release(self._stream)

    def receive(self, message: Message) -> None:
        self._link.release(self._stream)
        match message:
            case Answer(text):
                try:
                    self.answer.set_result(json.loads(text))
                except (ValueError, RecursionError) as error:
                    self.lose(MeshLost(f"the daemon's answer is not JSON: {error}"))
            case Denial(code, reason):
                self.lose(MeshRefused(reason, code))
            case _:
                raise UnexpectedMessage(f"a {type(message).__name__} in answer to a question")

    def lose(self, error: MeshError) -> None:
        try:
            self.answer.set_exception(error)
        except InvalidStateError:
            return

    @property
    def in_flight(self) -> int:
        """Questions are no units."""
        return 0

    def orphan(self, error: MeshError) -> None:
        """Whoever waits, waits in the parent."""

    def close(self) -> None:
        """Its answer is on the way."""
