"""Programs on the local socket: what they may do, when they are made to wait, when they are hung up on."""

import pytest
import trio
import trio.testing

from meshd_node.services.jobs import service
from meshd_node.services.local import session
from meshd_protocol.ids import function_digest
from meshd_protocol.messages.attempts import UnitStatus
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
    JobEnded,
    JobOpened,
    OpenJob,
    Question,
    SubmittedUnit,
    SubmitUnits,
    UnitsEnded,
    Welcome,
)
from meshd_protocol.records import Needs, Policy

OPEN = OpenJob("job", Policy(), Needs(), False)
LOCK = b"six==1.17.0 \\\n    --hash=sha256:" + b"a" * 64 + b"\n"
PACKED = OpenJob("job", Policy(), Needs(environment=function_digest(LOCK)), False)
DETACHED = OpenJob("job", Policy(), Needs(), True)
FUNCTION = DefineFunction(0, b"function")


def units(count: int, size: int = 4) -> SubmitUnits:
    return SubmitUnits([SubmittedUnit(0, bytes(size))] * count)


def outcomes(program) -> list[int]:
    return [each.index for message in program.hear(UnitsEnded) for each in message.outcomes]


async def test_units_are_answered_in_the_order_of_their_ends_and_the_job_ends_with_the_last(daemon) -> None:
    daemon.lend()
    program = await daemon.program()
    await program.say(OPEN, FUNCTION, units(3), units(2), CloseJob(), stream=7)
    daemon.finish()

    assert len(program.hear(JobOpened)) == 1
    assert outcomes(program) == [0, 1, 2, 3, 4]
    assert program.hear(JobEnded) == [JobEnded("done", "")]
    assert {stream for _, stream in program.received} <= {7}


async def test_a_job_that_has_ended_can_be_attached_to_again_and_again(daemon) -> None:
    """Whoever heard of its end once stayed its reader for ever, and nobody else got its results."""
    daemon.lend()
    first = await daemon.program()
    await first.say(DETACHED, FUNCTION, units(3), CloseJob(), stream=1)
    daemon.finish()
    (opened,) = first.hear(JobOpened)

    for _ in range(2):
        await first.say(AttachJob(opened.job), stream=2)
        assert outcomes(first)[-3:] == [0, 1, 2]
        assert first.hear(JobEnded)
    second = await daemon.program()
    await second.say(AttachJob(opened.job), stream=1)

    assert outcomes(second) == [0, 1, 2]
    assert second.hear(JobEnded) == [JobEnded("done", "")]


async def test_a_running_job_has_one_reader_and_the_next_one_gets_everything(daemon) -> None:
    daemon.lend()
    first, second = await daemon.program(), await daemon.program()
    await first.say(DETACHED, FUNCTION, units(2), CloseJob(), stream=1)
    (opened,) = first.hear(JobOpened)
    await second.say(AttachJob(opened.job), stream=1)
    assert [denial.code for denial in second.hear(Denial)] == [DenialCode.NOT_YOURS]

    first.sock.close()
    await trio.testing.wait_all_tasks_blocked()
    await second.say(AttachJob(opened.job), stream=1)
    daemon.finish()

    assert outcomes(second) == [0, 1]
    assert second.hear(JobEnded)


async def test_what_a_program_leaves_behind_is_cancelled_unless_it_was_detached(daemon) -> None:
    daemon.lend()
    program = await daemon.program()
    await program.say(OPEN, FUNCTION, units(1), stream=1)
    await program.say(DETACHED, FUNCTION, units(1), CloseJob(), stream=2)
    kept = daemon.executor.leases[1].job
    program.sock.close()
    await trio.testing.wait_all_tasks_blocked()

    assert {job.state for job in daemon.jobs.owner.jobs() if job.job != kept} == {"cancelled"}
    daemon.finish()
    assert {job.state for job in daemon.jobs.owner.jobs() if job.job == kept} == {"done"}


async def test_cancelled_units_end_once(daemon) -> None:
    program = await daemon.program()
    await program.say(OPEN, FUNCTION, units(3), CancelUnits([1, 1, 99]), CancelUnits([1]), stream=1)
    ended = [each for message in program.hear(UnitsEnded) for each in message.outcomes]

    assert [(each.index, each.status) for each in ended] == [(1, UnitStatus.CANCELLED)]


async def test_another_users_job_is_neither_read_nor_cancelled(daemon) -> None:
    mine, theirs = await daemon.program(uid=1), await daemon.program(uid=2)
    await mine.say(DETACHED, FUNCTION, units(1), stream=1)
    (opened,) = mine.hear(JobOpened)

    await theirs.say(AttachJob(opened.job), CancelJob(opened.job), stream=1)

    assert [denial.code for denial in theirs.hear(Denial)] == [DenialCode.NOT_YOURS] * 2
    assert not mine.hear(JobEnded)
    await mine.say(CancelJob(opened.job), stream=3)
    assert mine.hear(Answer)
    assert [ended.state for ended in mine.hear(JobEnded)] == ["cancelled"]


@pytest.mark.parametrize(
    "messages",
    [
        (ClientHello([1], "again"),),
        (OPEN, OPEN),
        (OPEN, units(1)),
        (PACKED, FUNCTION, units(1)),
        (OPEN, FUNCTION, units(1), CloseJob(), units(1)),
        (JobEnded("done", ""),),
    ],
)
async def test_what_makes_no_sense_ends_the_connection_with_a_reason(daemon, messages) -> None:
    program = await daemon.program()
    await program.say(*messages, stream=1)

    (denial,) = program.hear(Denial)
    assert denial.code is DenialCode.PROTOCOL
    assert denial.reason
    assert program.is_hung_up_on()


async def test_units_that_need_an_environment_come_after_its_lock(daemon) -> None:
    daemon.lend()
    program = await daemon.program()
    await program.say(PACKED, FUNCTION, DefineFunction(1, LOCK), units(2), stream=1)
    daemon.finish()

    assert outcomes(program) == [0, 1]


async def test_the_first_word_is_a_hello(daemon) -> None:
    program = await daemon.program(greeted=False)
    await program.say(Ask(Question.STATUS), stream=1)

    assert [denial.code for denial in program.hear(Denial)] == [DenialCode.PROTOCOL]
    assert not program.hear(Welcome)


async def test_what_still_arrives_for_a_job_that_was_refused_is_ignored(daemon) -> None:
    """The SDK sends functions and units without waiting for the answer."""
    daemon.answers.denial = Denial(DenialCode.DRAINING, "draining")
    program = await daemon.program()
    await program.say(OPEN, FUNCTION, units(2), CancelUnits([0]), CloseJob(), stream=1)
    await program.say(Ask(Question.STATUS), stream=2)

    assert [denial.code for denial in program.hear(Denial)] == [DenialCode.DRAINING]
    assert program.hear(Answer)


async def test_a_program_with_too_many_jobs_is_hung_up_on(daemon, monkeypatch) -> None:
    monkeypatch.setattr(session, "STREAMS_MAX", 3)
    program = await daemon.program()
    for stream in range(1, 5):
        await program.say(OPEN, stream=stream)

    assert len(program.hear(JobOpened)) == 3
    assert program.hear(Denial)


async def test_beyond_the_bytes_that_may_wait_a_job_is_refused_and_its_bytes_are_free_again(
    daemon, monkeypatch
) -> None:
    monkeypatch.setattr(service, "WAITING_BYTES_MAX", 10_000)
    program = await daemon.program()
    await program.say(OPEN, FUNCTION, units(2, 4_000), stream=1)
    await program.say(units(1, 4_000), stream=1)

    assert [denial.code for denial in program.hear(Denial)] == [DenialCode.TOO_MUCH]
    assert [ended.state for ended in program.hear(JobEnded)] == ["cancelled"]
    await program.say(OPEN, FUNCTION, units(2, 4_000), stream=2)
    assert not program.hear(Denial)


async def test_a_program_that_does_not_read_starts_no_more_units_until_it_reads(daemon, monkeypatch) -> None:
    monkeypatch.setattr(session, "PAUSE_BYTES", 1 << 20)
    monkeypatch.setattr(session, "RESUME_BYTES", 1 << 18)
    daemon.lend(units=4)
    program = await daemon.program()
    await program.say(OPEN, FUNCTION, units(100), stream=1)
    for _ in range(10):
        daemon.finish(bytes(1 << 19))
    assert not daemon.executor.leases

    heard: list[int] = []
    while len(heard) < 100:
        await trio.testing.wait_all_tasks_blocked()
        heard += outcomes(program)
        daemon.finish(b"\x00")

    assert sorted(heard) == list(range(100))


async def test_a_program_that_asks_on_and_on_and_never_reads_is_hung_up_on(daemon, monkeypatch) -> None:
    monkeypatch.setattr(session, "UNREAD_BYTES_MAX", 4 << 20)
    daemon.answers.json = b'"' + b"x" * (1 << 20) + b'"'
    program = await daemon.program()
    for _ in range(10):
        try:
            await program.say(Ask(Question.JOBS), stream=1)
        except BrokenPipeError:
            break
    else:
        raise AssertionError("ten answers of a MiB wait, and it still listens")


async def test_results_are_cut_into_frames_that_may_travel(daemon) -> None:
    daemon.lend()
    program = await daemon.program()
    await program.say(OPEN, FUNCTION, units(5), stream=1)
    daemon.finish(bytes(9 << 20))
    frames: list[int] = []
    while sum(frames) < 5:
        await trio.testing.wait_all_tasks_blocked()
        frames += [len(message.outcomes) for message in program.hear(UnitsEnded)]

    assert frames == [1, 1, 1, 1, 1]
