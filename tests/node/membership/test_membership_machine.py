import math
import random

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshd_node.core.membership.config import MembershipConfig
from meshd_node.core.membership.effects import Dial, MemberChanged, MemberState, Send, Wake
from meshd_node.core.membership.events import (
    DialFailed,
    DigestsArrived,
    PeerUp,
    StatesArrived,
    Tick,
    VerifiedState,
    WantsArrived,
)
from meshd_node.core.membership.machine import Membership
from meshd_node.errors import ConfigError
from meshd_protocol.certificates import Certified, Role
from meshd_protocol.ids import MeshId, NodeId
from meshd_protocol.limits import STATES_PER_MESSAGE_MAX
from meshd_protocol.messages.peer import SignedState, StateDigest, StateDigests, States, StateWants
from meshd_protocol.records import CageLevel, Core, Offer, Phase, Slot, State, Version, encode_record

ALIVE, SUSPECT, DEAD = MemberState.ALIVE, MemberState.SUSPECT, MemberState.DEAD
KEY = Ed25519PrivateKey.from_private_bytes(bytes(32)).public_key()


def node(index: int) -> NodeId:
    return NodeId(index.to_bytes(20, "big"))


def core(index: int, sequence: int = 1, *, addresses: bool = True, name: str = "n") -> VerifiedState:
    content = Core([b"c"], name, [f"10.0.0.{index}:1"] if addresses else [], "1")
    return verified(index, sequence, content)


def offer(index: int, sequence: int = 2, cpu_milli: int = 1000, phase: Phase = Phase.ALIVE) -> VerifiedState:
    content = Offer(phase, cpu_milli, 1, [], 1, ["3.11"], "Linux", 1, CageLevel.NONE, True)
    return verified(index, sequence, content)


def verified(index: int, sequence: int, content: Core | Offer) -> VerifiedState:
    slot = Slot.CORE if isinstance(content, Core) else Slot.OFFER
    state = State(b"m" * 20, node(index), slot, Version(1, sequence), encode_record(content))
    proved = Certified(MeshId(b"m" * 20), node(index), "lab", frozenset({Role.WORKER}), KEY, 0, 1, (b"c",))
    return VerifiedState(SignedState(encode_record(state), bytes(64)), state, content, proved)


def machine(**config: float) -> Membership:
    return Membership(node(0), random.Random(1), MembershipConfig(**config))


def learned(machine: Membership, *states: VerifiedState, now: float = 0.0) -> list[object]:
    return list(machine.handle(StatesArrived(node(99), list(states)), now))


def messages(effects: list[object], kind: type) -> list[object]:
    return [effect.message for effect in effects if isinstance(effect, Send) and isinstance(effect.message, kind)]


# --- in a world ---------------------------------------------------------------------------------------------------


def test_a_node_alone_knows_itself_and_stays_silent(new_world) -> None:
    world = new_world()
    world.start(1)
    world.run(60)

    assert world.state(1, 1) is ALIVE
    assert world.sent == []
    assert world.host(1).wake_at is None


def test_two_nodes_learn_of_each_other(new_world) -> None:
    world = new_world()
    world.start(1)
    world.start(2)
    world.connect(1, 2)
    world.run(1)

    assert world.state(1, 2) is ALIVE
    assert world.state(2, 1) is ALIVE
    assert world.host(1).machine.member(world.host(2).node).offer.cpu_milli == 1000


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("count", [3, 4, 12])
def test_from_one_seed_every_node_learns_every_other_and_connects(new_world, count: int, seed: int) -> None:
    world = new_world(seed)
    for index in range(count):
        world.start(index)
    for index in range(1, count):
        world.connect(index, 0)
    world.run(3)

    for host in world.hosts.values():
        assert {m.node: m.state for m in host.machine.members()} == dict.fromkeys(world.hosts, ALIVE), f"{seed=}"
        assert len(host.sessions) == count - 1, f"full mesh; {seed=}"


def test_a_killed_node_is_suspect_at_once_and_dead_within_two_seconds(new_world) -> None:
    world = mesh(new_world, 4)
    world.kill(2)

    assert world.state(0, 2) is SUSPECT
    world.run(2)
    assert [world.state(viewer, 2) for viewer in (0, 1, 3)] == [DEAD] * 3


def test_a_node_that_is_killed_and_starts_again_at_once_is_never_dead(new_world) -> None:
    world = mesh(new_world, 4)
    world.kill(2)
    world.run(0.3)
    world.start(2, epoch=2)
    world.run(5)

    assert [world.state(viewer, 2) for viewer in (0, 1, 3)] == [ALIVE] * 3
    assert all(change.state is not DEAD for viewer in (0, 1, 3) for change in world.host(viewer).changes)


def test_a_dead_node_that_comes_back_through_one_peer_is_alive_for_all(new_world) -> None:
    world = mesh(new_world, 4)
    world.kill(2)
    world.run(120)
    world.start(2, epoch=2)
    world.connect(2, 0)
    world.run(3)

    assert [world.state(viewer, 2) for viewer in (0, 1, 3)] == [ALIVE] * 3
    assert world.host(2).sessions == {world.host(index).node for index in (0, 1, 3)}


def test_two_that_can_not_reach_each_other_but_are_heard_by_a_third_never_bury_each_other(new_world) -> None:
    world = mesh(new_world, 3)
    world.separate(1, 2)
    world.run(20)
    before = len(world.host(1).changes)
    world.run(200)

    assert world.state(1, 2) is ALIVE
    assert world.state(2, 1) is ALIVE
    assert len(world.host(1).changes) == before, "no flapping either"


def test_a_host_that_falls_silent_is_dead_after_a_bounded_time(new_world) -> None:
    """Nobody refuses anything when the power is cut."""
    world = mesh(new_world, 3)
    for viewer in (0, 1):
        world.separate(viewer, 2)
    world.run(9)
    assert world.state(0, 2) is SUSPECT
    world.run(20)

    assert [world.state(0, 2), world.state(1, 2)] == [DEAD] * 2


def test_a_mesh_that_was_split_heals_by_itself(new_world) -> None:
    world = mesh(new_world, 4)
    pairs = [(a, b) for a in (0, 1) for b in (2, 3)]
    for a, b in pairs:
        world.separate(a, b)
    world.run(60)
    assert all(world.state(a, b) is DEAD for a, b in pairs)
    world.cut.clear()
    world.run(40)

    assert all(world.state(a, b) is world.state(b, a) is ALIVE for a, b in pairs)


def test_a_node_that_takes_leave_is_not_dialled_any_more(new_world) -> None:
    world = mesh(new_world, 3)
    left = world.host(2).machine.member(world.host(2).node).offer
    world.publish(2, Offer(Phase.LEFT, *_rest(left)))
    world.run(0.1)
    world.kill(2)
    world.run(30)

    assert [world.state(viewer, 2) for viewer in (0, 1)] == [MemberState.LEFT] * 2


def test_a_draining_node_is_seen_so_and_back_when_it_stops_draining(new_world) -> None:
    world = mesh(new_world, 2)
    usual = world.host(1).machine.member(world.host(1).node).offer
    world.publish(1, Offer(Phase.DRAINING, *_rest(usual)))
    world.run(0.1)
    assert world.state(0, 1) is MemberState.DRAINING
    world.publish(1, usual)
    world.run(0.1)

    assert world.state(0, 1) is ALIVE


def test_refreshing_an_offer_is_no_change(new_world) -> None:
    world = mesh(new_world, 3)
    before = len(world.host(0).changes)
    version = world.host(0).machine.member(world.host(1).node).version
    world.run(60)

    assert len(world.host(0).changes) == before
    assert world.host(0).machine.member(world.host(1).node).version > version


def test_a_node_without_addresses_is_alive_while_it_is_heard_of(new_world) -> None:
    """It dials out from behind a NAT; whom it did not reach knows it through the others."""
    world = new_world()
    for index in (0, 1):
        world.start(index)
    world.start(2, addresses=False)
    world.cut.add(frozenset((world.host(1).node, world.host(2).node)))
    world.connect(0, 1)
    world.connect(0, 2)
    world.run(60)
    assert world.state(1, 2) is ALIVE
    world.kill(2)
    world.run(40)

    assert world.state(1, 2) is DEAD


def mesh(new_world, count: int):
    world = new_world()
    for index in range(count):
        world.start(index)
    for index in range(1, count):
        world.connect(index, 0)
    world.run(3)
    assert all(len(host.sessions) == count - 1 for host in world.hosts.values())
    return world


def _rest(offer: Offer) -> list[object]:
    return [getattr(offer, name) for name in offer.__struct_fields__[1:]]


# --- one machine --------------------------------------------------------------------------------------------------


def test_an_older_version_changes_nothing() -> None:
    view = machine()
    learned(view, core(1), offer(1, 5, cpu_milli=4000))
    effects = learned(view, offer(1, 4, cpu_milli=1))

    assert effects == []
    assert view.member(node(1)).offer.cpu_milli == 4000


def test_of_two_states_with_one_version_the_first_stays() -> None:
    """Only a publisher that lies signs two; whichever came first is kept, so nobody can be made to flap."""
    view = machine()
    learned(view, core(1), offer(1, 5, cpu_milli=4000))
    effects = learned(view, offer(1, 5, cpu_milli=9000))

    assert effects == []
    assert view.member(node(1)).offer.cpu_milli == 4000


def test_nobody_else_makes_a_version_of_ours() -> None:
    view = machine()

    assert learned(view, core(0, 7)) == []
    assert view.member(node(0)) is None


def test_an_offer_without_its_certificate_makes_no_member() -> None:
    view = machine()

    assert learned(view, offer(1)) == []
    assert view.members() == []


def test_a_new_state_goes_to_all_peers_but_its_sender() -> None:
    view = machine()
    for index in (1, 2, 3):
        view.handle(PeerUp(node(index)), 0.0)
    effects = view.handle(StatesArrived(node(2), [core(7)]), 0.0)

    assert {e.node for e in effects if isinstance(e, Send)} == {node(1), node(3)}


def test_a_new_state_is_relayed_to_a_bounded_number_of_peers() -> None:
    view = machine(relays_max=8)
    for index in range(1, 101):
        view.handle(PeerUp(node(index)), 0.0)
    effects = view.handle(StatesArrived(node(2), [core(200)]), 0.0)

    assert len(messages(effects, States)) == 8


def test_digests_are_answered_with_what_is_newer_and_a_wish_for_what_is_missing() -> None:
    view = machine()
    learned(view, core(1, 5), core(2, 5))
    theirs = [StateDigest(node(1), Slot.CORE, Version(1, 3)), StateDigest(node(2), Slot.CORE, Version(1, 9))]
    effects = view.handle(DigestsArrived(node(50), [*theirs, StateDigest(node(3), Slot.OFFER, Version(1, 1))]), 0.0)

    assert messages(effects, States) == [States([core(1, 5).signed])]
    assert messages(effects, StateWants) == [StateWants([(node(2), Slot.CORE), (node(3), Slot.OFFER)])]


def test_certificates_travel_before_the_offers_that_need_them() -> None:
    view = machine()
    for index in range(1, 101):
        learned(view, core(index), offer(index))
    effects = view.handle(DigestsArrived(node(50), []), 0.0)
    slots = [_slot(signed) for message in messages(effects, States) for signed in message.states]

    assert slots == sorted(slots)
    assert len(slots) == 200
    assert all(len(message.states) <= STATES_PER_MESSAGE_MAX for message in messages(effects, States))


def test_an_empty_digest_does_not_pull_out_more_than_a_few_messages() -> None:
    view = machine()
    learned(view, *(core(index) for index in range(1, 2001)))
    effects = view.handle(DigestsArrived(node(5000), []), 0.0)

    assert len(messages(effects, States)) == 4


def test_a_wish_repeated_in_one_message_is_answered_once() -> None:
    view = machine()
    learned(view, core(1))
    effects = view.handle(WantsArrived(node(5), [(node(1), Slot.CORE)] * 128), 0.0)

    assert messages(effects, States) == [States([core(1).signed])]


def test_what_nobody_holds_is_not_answered() -> None:
    assert machine().handle(WantsArrived(node(5), [(node(1), Slot.CORE)]), 0.0) == []


def test_a_full_view_takes_no_newcomer_while_all_its_members_live() -> None:
    view = machine(members_max=3)
    learned(view, *(core(index) for index in range(1, 6)))

    assert [member.node for member in view.members()] == [node(1), node(2), node(3)]


def test_a_full_view_forgets_the_longest_gone_for_a_newcomer() -> None:
    view = machine(members_max=3)
    learned(view, *(core(index) for index in (1, 2, 3)), offer(2, phase=Phase.LEFT), offer(3, phase=Phase.LEFT))
    learned(view, core(4))

    assert {member.node for member in view.members()} == {node(1), node(3), node(4)}


def test_the_dead_are_forgotten_beyond_a_bound_and_after_a_day() -> None:
    view = machine(tombstones_max=5)
    for index in range(1, 20):
        learned(view, core(index), offer(index, phase=Phase.LEFT))
    assert len(view.members()) == 5
    view.handle(Tick(), 86_400.0)

    assert view.members() == []


def test_who_is_gone_for_half_a_day_is_not_told_of_any_more() -> None:
    view = machine()
    learned(view, core(1), core(2), offer(2, phase=Phase.LEFT))
    (digests,) = messages(view.handle(PeerUp(node(9)), 50_000.0), StateDigests)

    assert [digest.publisher for digest in digests.digests] == [node(1)]


def test_dials_are_bounded_and_the_rest_wait_their_turn() -> None:
    view = machine(dials_max=4)
    effects = learned(view, *(core(index) for index in range(1, 21)))
    assert len([e for e in effects if isinstance(e, Dial)]) == 4
    effects = view.handle(DialFailed(node(1), refused=True), 0.0)

    assert [e.node for e in effects if isinstance(e, Dial)] == [node(5)]


def test_redials_back_off_to_a_bound() -> None:
    view = machine(dial_first_s=1.0, dial_last_s=8.0)
    learned(view, core(1))
    times, now, wake = [], 0.0, math.inf
    for _ in range(8):
        effects = view.handle(DialFailed(node(1), refused=False), now)
        while not any(isinstance(effect, Dial) for effect in effects):
            now = wake = next((effect.at for effect in effects if isinstance(effect, Wake)), wake)
            effects = view.handle(Tick(), now)
        times.append(now)
        wake = next((effect.at for effect in effects if isinstance(effect, Wake)), wake)
    pauses = [b - a for a, b in zip([0.0, *times], times, strict=False)]

    assert all(0.5 * min(8, 2**i) <= pause <= min(8, 2**i) + 1e-9 for i, pause in enumerate(pauses)), pauses


def test_the_node_with_the_larger_id_leaves_the_first_dial_to_the_other() -> None:
    view = Membership(node(5), random.Random(1), MembershipConfig())
    dialled = [e.node for e in learned(view, core(1), core(9)) if isinstance(e, Dial)]
    assert dialled == [node(9)]
    effects = view.handle(Tick(), 0.25)

    assert [e.node for e in effects if isinstance(e, Dial)] == [node(1)]


def test_a_session_that_is_up_already_changes_nothing_when_a_dial_fails() -> None:
    view = machine()
    learned(view, core(1))
    view.handle(PeerUp(node(1)), 0.0)
    effects = view.handle(DialFailed(node(1), refused=True), 1.0)

    assert not [e for e in effects if isinstance(e, MemberChanged | Dial)]
    assert view.member(node(1)).state is ALIVE


def test_an_offer_from_before_a_restart_is_not_believed() -> None:
    view = machine()
    learned(view, core(1), offer(1, phase=Phase.LEFT))
    state = core(1).state
    restarted = State(state.mesh, state.publisher, Slot.CORE, Version(2, 1), state.content)
    learned(view, VerifiedState(core(1).signed, restarted, core(1).content, core(1).certified))

    assert view.member(node(1)).state is ALIVE
    assert view.member(node(1)).offer is None


def test_one_exchange_goes_to_one_random_peer_at_every_interval() -> None:
    view = machine(exchange_s=10.0)
    for index in (1, 2, 3):
        view.handle(PeerUp(node(index)), 0.0)

    assert [len(messages(view.handle(Tick(), now), StateDigests)) for now in (4.0, 10.0, 15.0, 20.0)] == [0, 1, 0, 1]


def test_a_setting_that_can_not_work_is_refused_by_name() -> None:
    with pytest.raises(ConfigError, match=r"membership\.dial_last_s"):
        MembershipConfig(dial_last_s=0.1)
    with pytest.raises(ConfigError, match=r"membership\.members_max"):
        MembershipConfig(members_max=0)


def _slot(signed: SignedState) -> int:
    return 2 if signed in {offer(index).signed for index in range(1, 101)} else 1
