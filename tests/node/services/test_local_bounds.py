"""What one user of a machine may take from the others: places, jobs, kept results, the daemon's time."""

import trio.testing

from meshd_node.services.jobs import retention, service
from meshd_node.services.local import session
from meshd_protocol.messages.local import (
    Ask,
    AttachJob,
    CloseJob,
    Denial,
    DenialCode,
    JobEnded,
    JobOpened,
    OpenJob,
    Question,
)
from meshd_protocol.records import Needs, Policy

DETACHED = OpenJob("job", Policy(), Needs(), True)


async def test_a_user_who_opens_jobs_without_end_is_denied_and_others_are_not(daemon, monkeypatch) -> None:
    """32,000 open detached jobs once filled memory, and then the answer to `meshd jobs` ended the daemon."""
    monkeypatch.setattr(service, "OPEN_JOBS_OF_USER_MAX", 3)
    greedy, other = await daemon.program(uid=1), await daemon.program(uid=2)
    for stream in range(1, 5):
        await greedy.say(DETACHED, stream=stream)
    await other.say(DETACHED, stream=1)

    assert len(greedy.hear(JobOpened)) == 3
    assert [denial.code for denial in greedy.hear(Denial)] == [DenialCode.TOO_MUCH]
    assert len(other.hear(JobOpened)) == 1


async def test_a_detached_job_closes_with_its_program_since_nobody_can_add_to_it(daemon) -> None:
    program = await daemon.program()
    await program.say(DETACHED, stream=1)
    program.sock.close()
    await trio.testing.wait_all_tasks_blocked()

    assert [summary.state for summary in daemon.jobs.owner.jobs()] == ["done"]


async def test_one_users_ended_jobs_never_push_out_anothers(daemon, monkeypatch) -> None:
    monkeypatch.setattr(retention, "ENDED_JOBS_KEPT", 4)
    careful, greedy = await daemon.program(uid=1), await daemon.program(uid=2)
    await careful.say(DETACHED, CloseJob(), stream=1)
    (kept,) = careful.hear(JobOpened)
    for stream in range(1, 9):
        await greedy.say(DETACHED, CloseJob(), stream=stream)
    careful.hear(JobEnded)
    await careful.say(AttachJob(kept.job), stream=2)

    assert careful.hear(JobEnded) == [JobEnded("done", "")]
    assert len(daemon.jobs.owner.jobs()) == 4


async def test_a_program_that_asks_without_waiting_for_answers_is_hung_up_on(daemon) -> None:
    """100,000 questions at once once kept everybody else waiting for four seconds."""
    program = await daemon.program()
    await program.say(*[Ask(Question.PEERS)] * (session.QUESTIONS_MAX + 1))

    assert [denial.code for denial in program.hear(Denial)] == [DenialCode.PROTOCOL]
    assert program.is_hung_up_on()


async def test_a_program_that_says_nothing_loses_its_place(daemon, autojump_clock) -> None:
    silent = await daemon.program(greeted=False)
    await trio.sleep(session.HELLO_S + 1)

    assert silent.is_hung_up_on()


async def test_an_answer_too_large_for_the_channel_ends_that_session_alone(daemon) -> None:
    daemon.answers.json = bytes(80 << 20)
    curious, other = await daemon.program(), await daemon.program()
    await curious.say(Ask(Question.JOBS))
    daemon.answers.json = b"{}"
    await other.say(DETACHED, stream=1)

    assert curious.is_hung_up_on()
    assert len(other.hear(JobOpened)) == 1
