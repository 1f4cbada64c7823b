"""Peers dial each other back: only what the asker signed, not too often, and an answer counts in its own session."""

from collections.abc import Callable
from dataclasses import dataclass

import pytest
import trio
import trio.testing

from meshd_node.net.errors import ConnectionLost
from meshd_node.services.netcheck.dial_backs import PEER_BURST, DialBacks
from meshd_node.services.netcheck.failures import KEPT, DialFailure, DialFailures
from meshd_node.services.netcheck.witnesses import Witnesses
from meshd_protocol.framing import Message
from meshd_protocol.ids import ID_BYTES, NodeId
from meshd_protocol.limits import ADDRESSES_MAX
from meshd_protocol.messages.peer import DialBack, DialBackReport, DialOutcome

ASKER = NodeId(b"a" * ID_BYTES)
OWN = "10.0.0.1:7423"


@dataclass
class FakePeer:
    node: NodeId


class FakeLink:
    """A session that notes what is sent."""

    def __init__(self, node: NodeId = ASKER, session: int = 1) -> None:
        self.peer = FakePeer(node)
        self.session = session
        self.sent: list[tuple[Message, int]] = []

    def send(self, message: Message, stream: int = 0) -> None:
        self.sent.append((message, stream))


class Network:
    """What comes of each dial, and which were made."""

    def __init__(self) -> None:
        self.failures: dict[str, ConnectionLost] = {}
        self.dialled: list[tuple[NodeId, str]] = []

    async def reach(self, node: NodeId, address: str) -> ConnectionLost | None:
        self.dialled.append((node, address))
        await trio.lowlevel.checkpoint()
        return self.failures.get(address)


@pytest.fixture
def network() -> Network:
    return Network()


@pytest.fixture
def make(network: Network) -> Callable[..., DialBacks]:
    def make(*own: str) -> DialBacks:
        return DialBacks(network.reach, lambda node: list(own or (OWN,)), trio.current_time, lambda: None)

    return make


async def test_report_says_of_each_address_in_order_what_came_of_it(nursery, network, make) -> None:
    link = FakeLink()
    own = ("a:1", "b:1", "c:1", "d:1")
    network.failures = {
        "b:1": ConnectionLost("nobody", refused=True),
        "c:1": ConnectionLost("nothing", silent=True),
        "d:1": ConnectionLost("another node answers here"),
    }

    make(*own).asked(nursery, link, list(own), 7)
    await trio.testing.wait_all_tasks_blocked()

    outcomes = [DialOutcome.REACHED, DialOutcome.REFUSED, DialOutcome.SILENT, DialOutcome.FAILED]
    assert link.sent == [(DialBackReport(outcomes), 7)]


async def test_address_that_the_asker_has_not_signed_is_never_dialled(nursery, network, make) -> None:
    """Else any member could have the whole mesh connect to somebody else's machine."""
    link = FakeLink()

    make(OWN).asked(nursery, link, ["victim.example:80", OWN], 1)
    await trio.testing.wait_all_tasks_blocked()

    assert network.dialled == [(ASKER, OWN)]
    assert link.sent == [(DialBackReport([DialOutcome.NOT_YOURS, DialOutcome.REACHED]), 1)]


async def test_asker_who_asks_too_often_is_refused_though_it_comes_in_new_sessions(
    nursery, network, make, autojump_clock
) -> None:
    dial_backs = make(OWN)
    links = [FakeLink(session=number) for number in range(int(PEER_BURST) + 1)]
    for link in links:
        dial_backs.asked(nursery, link, [OWN], 1)
    await trio.testing.wait_all_tasks_blocked()

    assert len(network.dialled) == PEER_BURST
    assert links[-1].sent == [(DialBackReport([DialOutcome.TOO_OFTEN]), 1)]

    await trio.sleep(300)
    dial_backs.asked(nursery, again := FakeLink(), [OWN] * ADDRESSES_MAX, 1)
    await trio.testing.wait_all_tasks_blocked()
    assert again.sent == [(DialBackReport([DialOutcome.REACHED] * ADDRESSES_MAX), 1)]


async def test_many_askers_together_are_bounded(nursery, network, make) -> None:
    dial_backs = make(OWN)
    for number in range(100):
        link = FakeLink(NodeId(number.to_bytes(ID_BYTES, "big")))
        dial_backs.asked(nursery, link, [OWN] * ADDRESSES_MAX, 1)
    await trio.testing.wait_all_tasks_blocked()

    assert len(network.dialled) == 8 * ADDRESSES_MAX


# --- asking -----------------------------------------------------------------------------------------------------------


async def test_witnesses_answer_each_in_its_own_session(nursery) -> None:
    witnesses = Witnesses(lambda: None)
    links = [FakeLink(session=1), FakeLink(session=2)]

    async def answer() -> None:
        await trio.testing.wait_all_tasks_blocked()
        (_, first), (_, second) = links[0].sent[0], links[1].sent[0]
        witnesses.answered(links[0], DialBackReport([DialOutcome.SILENT]), second)  # not this session's question
        witnesses.answered(links[0], DialBackReport([DialOutcome.REACHED]), first)
        witnesses.answered(links[1], DialBackReport([DialOutcome.REFUSED]), second)
        witnesses.answered(links[1], DialBackReport([DialOutcome.REACHED]), second)  # a second answer

    nursery.start_soon(answer)
    found = await witnesses.hear(links, [OWN], 5.0)

    assert {each.link.session: each.outcomes for each in found} == {
        1: [DialOutcome.REACHED],
        2: [DialOutcome.REFUSED],
    }
    assert [message for message, _ in links[0].sent] == [DialBack([OWN])]


async def test_witness_that_is_silent_gone_or_miscounts_says_nothing(nursery, autojump_clock) -> None:
    witnesses = Witnesses(lambda: None)
    silent, gone, wrong = links = [FakeLink(session=number) for number in range(3)]

    async def answer() -> None:
        await trio.testing.wait_all_tasks_blocked()
        witnesses.link_down(gone)
        witnesses.answered(wrong, DialBackReport([DialOutcome.REACHED] * 2), wrong.sent[0][1])

    nursery.start_soon(answer)
    found = await witnesses.hear(links, [OWN], 5.0)

    assert [each.outcomes for each in found] == [None] * 3
    witnesses.answered(silent, DialBackReport([DialOutcome.REACHED]), silent.sent[0][1])  # too late: ignored


def test_failures_are_forgotten_when_a_node_is_met_and_bounded_when_none_is() -> None:
    failures = DialFailures()
    for number in range(KEPT + 10):
        failures.failed(DialFailure(NodeId(number.to_bytes(ID_BYTES, "big")), "a:1", "silent", float(number)))
    failures.failed(DialFailure(None, "seed:1", "refused", 0.0))
    failures.met(NodeId((KEPT + 9).to_bytes(ID_BYTES, "big")), "seed:1")

    assert len(failures.all()) == KEPT - 2
    assert failures.all()[-1].at == KEPT + 8
