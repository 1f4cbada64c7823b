"""One program on the local socket: its streams, its jobs, what waits to be read by it."""

from typing import Final

import trio

from meshd_node.frame_socket import Batch, FrameSocket
from meshd_node.log import log
from meshd_node.services.execution.functions import TooManyFunctions
from meshd_node.services.jobs.context import JobContext
from meshd_node.services.jobs.service import JobService, TooMuchWaiting
from meshd_node.services.local.answers import INQUIRIES, Answers
from meshd_node.services.local.commands import Commands
from meshd_node.services.outflow import Outflow
from meshd_protocol import PROTOCOL_VERSION
from meshd_protocol.errors import LocalProtocolError, RemoteProtocolError, UnexpectedMessage
from meshd_protocol.framing import Message
from meshd_protocol.ids import Digest, JobId
from meshd_protocol.limits import JOB_FUNCTIONS_MAX, JOB_UNITS_MAX, MIB, REASON_CHARS_MAX
from meshd_protocol.messages.local import (
    Answer,
    Ask,
    AttachJob,
    CancelJob,
    CancelUnits,
    ClientHello,
    CloseJob,
    DefineFunction,
    Denial,
    DenialCode,
    Drain,
    JobEnded,
    JobOpened,
    OpenJob,
    Outcome,
    Reload,
    Revoke,
    SubmitUnits,
    UnitsEnded,
)

# A frame of outcomes is closed at this size.
_OUTCOME_BYTES: Final = 16 * MIB
# A program that does not read: beyond the first, no more of its units are started; below the second, they are again.
PAUSE_BYTES: Final = 64 * MIB
RESUME_BYTES: Final = 16 * MIB
# A program that does not read and goes on asking is hung up on: units wait for it, answers would pile up.
UNREAD_BYTES_MAX: Final = 256 * MIB
# How long a program may take to say its first word, and how many questions it may put before it reads an answer: one
# costs up to 1 ms, during which nobody else is served.
HELLO_S: Final = 5.0
QUESTIONS_MAX: Final = 64
# Questions that wait for other nodes, of one program.
INQUIRIES_MAX: Final = 4
# Jobs that one program drives at a time.
STREAMS_MAX: Final = 4_096


class Held:
    """A job that this program drives on one stream, and its own names for the job's functions."""

    __slots__ = ("closed", "context", "functions", "stream")

    def __init__(self, context: JobContext, stream: int) -> None:
        self.context = context
        self.stream = stream
        self.functions: dict[int, Digest] = {}
        self.closed = False


class Session:
    """Everything between a program's hello and its end."""

    def __init__(
        self,
        wire: FrameSocket,
        uid: int,
        jobs: JobService,
        answers: Answers,
        commands: Commands,
        outflow: Outflow,
    ) -> None:
        self._wire = wire
        self._uid = uid
        self._jobs = jobs
        self._answers = answers
        self._commands = commands
        self._outflow = outflow
        self._welcomed = False
        self._streams: dict[int, Held] = {}
        self._by_job: dict[JobId, Held] = {}
        self._paused = trio.Event()
        self._inquiries = 0
        self._nursery: trio.Nursery | None = None

    async def run(self) -> None:
        """Serve until the program hangs up or breaks the protocol; what it did not detach is then cancelled."""
        try:
            async with trio.open_nursery() as self._nursery:
                self._nursery.start_soon(self._resume_when_read)
                self._nursery.start_soon(self._expect_hello, self._nursery.cancel_scope)
                await self._serve()
                self._nursery.cancel_scope.cancel()
        finally:
            held = list(self._by_job.values())
            self._streams.clear()
            self._by_job.clear()
            for job in held:
                self._jobs.detach(job.context)
            self._wire.close()
            self._outflow.flush()

    async def _serve(self) -> None:
        try:
            await self._wire.run(self._messages)
        except LocalProtocolError as error:
            # Ours, and so a bug; but no program may end the daemon for the others by what it asks for.
            log.error("answer_impossible", uid=self._uid, reason=str(error))
        except RemoteProtocolError as error:
            log.info("program_refused", uid=self._uid, reason=str(error))
            self._wire.send(Denial(DenialCode.PROTOCOL, str(error)[:REASON_CHARS_MAX]))
            self._wire.flush()

    async def _expect_hello(self, session: trio.CancelScope) -> None:
        """Hang up on whoever connects and says nothing: places are few."""
        await trio.sleep(HELLO_S)
        if not self._welcomed:
            log.info("program_silent", uid=self._uid)
            session.cancel()

    async def _resume_when_read(self) -> None:
        while True:
            await self._paused.wait()
            await self._wire.drained(RESUME_BYTES)
            self._paused = trio.Event()
            for held in self._by_job.values():
                self._jobs.resume(held.context)
            self._outflow.flush()

    def flush(self) -> None:
        """Send what is queued."""
        self._wire.flush()

    # --- Listener ---------------------------------------------------------------------------------------------

    def deliver(self, job: JobId, outcomes: list[Outcome]) -> None:
        """Units of a job of this program ended."""
        held = self._by_job.get(job)
        if held is None:
            return
        for part in _parts(outcomes):
            self._send(UnitsEnded(part), held.stream)
        if self._wire.queued_bytes > PAUSE_BYTES and not self._paused.is_set():
            self._paused.set()
            for other in self._by_job.values():
                self._jobs.pause(other.context)

    def finished(self, job: JobId, state: str, reason: str) -> None:
        """A job of this program ended."""
        held = self._by_job.pop(job, None)
        if held is not None:
            del self._streams[held.stream]
            self._send(JobEnded(state, reason), held.stream)

    # --- messages ---------------------------------------------------------------------------------------------

    def _messages(self, batch: Batch) -> None:
        if sum(isinstance(message, Ask | Revoke | Drain | Reload) for message, _ in batch) > QUESTIONS_MAX:
            raise UnexpectedMessage(f"more than {QUESTIONS_MAX} questions at once: wait for the answers")
        for message, stream in batch:
            self._message(message, stream)
        self._outflow.flush()

    def _message(self, message: Message, stream: int) -> None:
        if self._wire.queued_bytes > UNREAD_BYTES_MAX and not isinstance(message, SubmitUnits):
            raise UnexpectedMessage(f"{self._wire.queued_bytes} bytes of answers wait to be read, and it asks for more")
        if not self._welcomed:
            self._hello(message)
            return
        match message:
            case SubmitUnits():
                self._submit(message, stream)
            case DefineFunction():
                self._define(message, stream)
            case OpenJob():
                self._open(message, stream)
            case CancelUnits(indices):
                if held := self._held(stream):
                    self._jobs.cancel_units(held.context, indices)
            case CloseJob():
                if held := self._held(stream):
                    held.closed = True
                    self._jobs.close_job(held.context)
            case AttachJob(job):
                self._attach(job, stream)
            case CancelJob(job):
                if context := self._allowed(job, stream):
                    self._jobs.cancel_job(context)
                    self._send(Answer(b"{}"), stream)
            case Ask():
                self._ask(message, stream)
            case Revoke() | Drain() | Reload():
                self._send(self._commands.obey(message, self._uid), stream)
            case _:
                raise UnexpectedMessage(f"a program does not send {type(message).__name__}")

    def _hello(self, message: Message) -> None:
        if not isinstance(message, ClientHello):
            raise UnexpectedMessage("the first frame must be ClientHello")
        if PROTOCOL_VERSION not in message.versions:
            self._send(
                Denial(DenialCode.VERSION, f"this daemon speaks version {PROTOCOL_VERSION}; update the program's meshd")
            )
            return
        self._welcomed = True
        self._send(self._answers.welcome())

    def _open(self, message: OpenJob, stream: int) -> None:
        if stream in self._streams or stream == 0 or len(self._streams) >= STREAMS_MAX:
            raise UnexpectedMessage(f"stream {stream} can not take a new job")
        refusal = self._answers.why_not_submit()
        if refusal is not None:
            self._send(refusal, stream)
            return
        try:
            context = self._jobs.open_job(self._uid, message, self)
        except TooMuchWaiting as error:
            self._send(Denial(DenialCode.TOO_MUCH, str(error)), stream)
            return
        held = Held(context, stream)
        self._streams[stream] = self._by_job[context.job] = held
        self._send(JobOpened(context.job), stream)
        if self._paused.is_set():
            self._jobs.pause(context)

    def _define(self, message: DefineFunction, stream: int) -> None:
        if held := self._held(stream):
            if len(held.functions) >= JOB_FUNCTIONS_MAX:
                raise UnexpectedMessage(f"more than {JOB_FUNCTIONS_MAX} functions in one job")
            try:
                held.functions[message.number] = self._jobs.define_function(held.context, message.data)
            except TooManyFunctions as error:
                self._send(Denial(DenialCode.TOO_MUCH, str(error)), stream)
                self._jobs.cancel_job(held.context)

    def _submit(self, message: SubmitUnits, stream: int) -> None:
        held = self._held(stream)
        if held is None:
            return
        if held.closed:
            raise UnexpectedMessage("units for a job that this program has closed")
        if held.context.units + len(message.units) > JOB_UNITS_MAX:
            raise UnexpectedMessage(f"more than {JOB_UNITS_MAX} units in one job")
        if held.context.lacks_environment:
            raise UnexpectedMessage("units that need an environment, before the lock that it is made from")
        known = held.functions
        try:
            functions = [known[unit.function] for unit in message.units]
        except KeyError as error:
            raise UnexpectedMessage(f"function {error} was not defined on this stream") from error
        try:
            self._jobs.submit(held.context, functions, [unit.payload for unit in message.units])
        except TooMuchWaiting as error:
            self._send(Denial(DenialCode.TOO_MUCH, str(error)), stream)
            self._jobs.cancel_job(held.context)

    def _attach(self, job: JobId, stream: int) -> None:
        context = self._allowed(job, stream)
        if context is None:
            return
        if stream == 0 or len(self._streams) >= STREAMS_MAX:
            raise UnexpectedMessage(f"stream {stream} can not take a job")
        if context.listener is not None or not context.detached or stream in self._streams:
            self._send(Denial(DenialCode.NOT_YOURS, "another program reads this job's results"), stream)
            return
        self._streams[stream] = self._by_job[job] = Held(context, stream)
        self._send(JobOpened(job), stream)
        self._jobs.attach(context, self)

    def _ask(self, message: Ask, stream: int) -> None:
        if message.question not in INQUIRIES:
            self._send(self._answers.answer(message, self._uid), stream)
            return
        if self._inquiries >= INQUIRIES_MAX:
            self._send(Denial(DenialCode.TOO_MUCH, f"{INQUIRIES_MAX} such questions wait already"), stream)
            return
        assert self._nursery is not None, "messages come while the session runs"
        self._inquiries += 1
        self._nursery.start_soon(self._inquire, message, stream)

    async def _inquire(self, message: Ask, stream: int) -> None:
        """Answer once others have answered."""
        try:
            self._send(await self._answers.inquire(message), stream)
            self._outflow.flush()
        finally:
            self._inquiries -= 1

    def _held(self, stream: int) -> Held | None:
        # None: the job was refused or has ended while this was on its way; its end was told.
        return self._streams.get(stream)

    def _allowed(self, job: JobId, stream: int) -> JobContext | None:
        context = self._jobs.job(job)
        denial = self._answers.why_not_touch(context, self._uid)
        if denial is not None:
            self._send(denial, stream)
            return None
        return context

    def _send(self, message: Message, stream: int = 0) -> None:
        self._wire.send(message, stream)
        self._outflow.written(self)


def _parts(outcomes: list[Outcome]) -> list[list[Outcome]]:
    if sum(len(outcome.value) for outcome in outcomes) <= _OUTCOME_BYTES:
        return [outcomes]
    parts: list[list[Outcome]] = [[]]
    size = 0
    for outcome in outcomes:
        if parts[-1] and size + len(outcome.value) > _OUTCOME_BYTES:
            parts.append([])
            size = 0
        parts[-1].append(outcome)
        size += len(outcome.value)
    return parts
