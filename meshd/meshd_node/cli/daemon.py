"""How verbs reach the local daemon: as any program does, through the SDK's session."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final

from meshd_node.cli.exits import Exit
from meshd_node.errors import MeshdError
from meshd_protocol.errors import MalformedId
from meshd_protocol.ids import JobId, from_text
from meshd_protocol.messages.local import Ask, CancelJob, DenialCode, Drain, Question, Reload, Revoke
from meshd_sdk.errors import MeshError, MeshRefused
from meshd_sdk.location import socket_path
from meshd_sdk.session import Session

_ID_CHARS: Final = 32


class DaemonAbsent(MeshdError):
    """No daemon answers at the local socket."""

    exit_code = Exit.UNAVAILABLE


class NoSuchJob(MeshdError):
    """The daemon does not know the job, or the text is no job's id."""

    exit_code = Exit.NO_INPUT


class NotYours(MeshdError):
    """The daemon knows the user, and the answer is no."""

    exit_code = Exit.NO_PERMISSION


class NotAllowed(MeshdError):
    """This node, or this user, may not order that."""

    exit_code = Exit.NO_PERMISSION


class Unusable(MeshdError):
    """What was asked for makes no sense."""

    exit_code = Exit.USAGE


class NothingFound(MeshdError):
    """Nobody who could be asked knows what was looked for."""

    exit_code = Exit.UNAVAILABLE


class DaemonBusy(MeshdError):
    """The daemon has enough to do for this user."""

    exit_code = Exit.TEMPORARY


# What a refusal is by its code; any other is about the job that was named.
_REFUSALS: Final = {
    DenialCode.NOT_YOURS: NotYours,
    DenialCode.NOT_FOUND: NothingFound,
    DenialCode.NOT_ALLOWED: NotAllowed,
    DenialCode.UNUSABLE: Unusable,
    DenialCode.DRAINING: DaemonBusy,
    DenialCode.TOO_MUCH: DaemonBusy,
}


@contextmanager
def asking() -> Iterator[Callable[[Ask | Drain | Reload | Revoke], Any]]:
    """What puts any number of questions and orders to the local daemon on one connection, and returns their JSON."""
    with _session() as session:
        yield session.ask


def ask(question: Question, job: str = "", index: int = -1) -> Any:
    """Put one question to the local daemon; return its JSON."""
    with _session() as session:
        return session.ask(Ask(question, _job_id(session, job), index))


def cancel_job(job: str) -> None:
    """Cancel every unit of a job."""
    with _session() as session:
        session.ask(CancelJob(_job_id(session, job)))


def _job_id(session: Session, text: str) -> JobId:
    """The job that an id, or the beginning of one, means."""
    if len(text) < _ID_CHARS and text:
        known = [str(job["id"]) for job in session.ask(Ask(Question.JOBS))]
        found = [each for each in known if each.startswith(text.lower())]
        if len(found) != 1:
            raise NoSuchJob(f"{len(found)} jobs of this node begin with {text!r}", "`meshd jobs` lists the ids")
        text = found[0]
    try:
        return JobId(from_text(text) if text else b"")
    except MalformedId as error:
        raise NoSuchJob(str(error), "`meshd jobs` lists the ids") from error


@contextmanager
def in_words() -> Iterator[None]:
    """What the daemon refuses, or that there is none, as errors of the command line."""
    try:
        yield
    except MeshRefused as error:
        raise _REFUSALS.get(error.code, NoSuchJob)(str(error)) from error
    except MeshError as error:
        raise DaemonAbsent(str(error)) from error


@contextmanager
def _session() -> Iterator[Session]:
    session = Session(socket_path(None))
    try:
        with in_words():
            yield session
    finally:
        session.close(wait=False, cancel=False)
