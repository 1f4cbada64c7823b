"""Questions that other nodes have to answer first: they wait without holding anything up, and are few."""

import trio.testing

from meshd_node.services.local.session import INQUIRIES_MAX
from meshd_protocol.messages.local import Answer, Ask, Denial, DenialCode, Question


async def test_inquiry_is_answered_when_others_have_answered_and_holds_nothing_up(daemon) -> None:
    program = await daemon.program()

    await program.say(Ask(Question.NETCHECK), stream=1)
    await program.say(Ask(Question.STATUS), stream=2)
    assert len(program.hear(Answer)) == 1

    daemon.answers.others_answered.set()
    await trio.testing.wait_all_tasks_blocked()
    assert len(program.hear(Answer)) == 1


async def test_program_has_few_inquiries_at_a_time(daemon) -> None:
    """Each makes other nodes work."""
    program = await daemon.program()

    for stream in range(INQUIRIES_MAX + 1):
        await program.say(Ask(Question.LOOKUP, text="n1"), stream=stream + 1)
    (denial,) = program.hear(Denial)
    assert denial.code is DenialCode.TOO_MUCH

    daemon.answers.others_answered.set()
    await trio.testing.wait_all_tasks_blocked()
    assert len(program.hear(Answer)) == INQUIRIES_MAX
    await program.say(Ask(Question.LOOKUP, text="n1"), stream=9)
    assert len(program.hear(Answer)) == 1


async def test_program_that_hangs_up_takes_its_inquiries_along(daemon) -> None:
    program = await daemon.program()
    await program.say(Ask(Question.NETCHECK), stream=1)

    program.sock.close()
    await trio.testing.wait_all_tasks_blocked()
    daemon.answers.others_answered.set()
    await trio.testing.wait_all_tasks_blocked()
