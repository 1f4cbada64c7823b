"""Whole machines in a small world: joining, dying, splitting, revoking. The simulator does the same at full size."""

import pytest

from meshd_node.core.membership.config import MembershipConfig
from meshd_node.core.membership.disputes import Disputes
from meshd_node.core.membership.effects import MemberState
from meshd_protocol.messages.membership import Load, Probe, Rumours
from meshd_protocol.records import Claim, Phase, Verdict, Version


@pytest.mark.parametrize("count", [1, 2, 3, 12, 30])
@pytest.mark.parametrize("seed", range(3))
def test_all_who_join_through_one_seed_at_once_soon_see_all(new_world, count: int, seed: int) -> None:
    world = new_world(seed)
    world.start(0)
    for index in range(1, count):
        world.start(index, via=0)

    assert world.run_until(world.agrees, 5.0) <= 5.0, f"repeat with seed={seed}"


def test_a_node_alone_sees_itself_and_waits_for_nothing_but_its_refresh(new_world) -> None:
    world = new_world()
    host = world.start(0)

    world.run(300.0)

    assert world.state(0, 0) is MemberState.ALIVE
    assert host.version.sequence >= 5


def test_a_newcomer_learns_all_though_its_seed_dies_at_once(new_world) -> None:
    world = new_world()
    world.start_many(25)
    world.start(25, via=7)
    world.run(0.2)
    world.kill(7)

    assert world.run_until(world.agrees, 25.0) <= 25.0


@pytest.mark.parametrize("count", [2, 3, 8, 24])
@pytest.mark.parametrize("silent", [False, True])
def test_a_crash_is_seen_by_all_who_are_left_and_by_nobody_else_of_others(new_world, count: int, silent: bool) -> None:
    world = new_world(count)
    world.start_many(count)

    world.kill(1, silent=silent)

    assert world.run_until(world.agrees, 40.0) <= 40.0
    assert all(world.state(index, 1) is MemberState.DEAD for index in range(count) if index != 1)


def test_a_restart_with_a_higher_epoch_is_seen_at_once(new_world) -> None:
    world = new_world()
    world.start_many(12)
    world.kill(3)
    world.run(15.0)
    assert world.state(0, 3) is MemberState.DEAD

    world.start(3, epoch=2, via=5)

    assert world.run_until(world.agrees, 5.0) <= 5.0


@pytest.mark.parametrize(("phase", "state"), [(Phase.DRAINING, "draining"), (Phase.LEFT, "left")])
def test_what_a_node_says_of_itself_is_known_to_all_within_two_seconds(new_world, members_kit, phase, state) -> None:
    world = new_world()
    world.start_many(30)

    world.publish(4, members_kit.offer(phase))
    world.run(2.0)

    assert {world.state(index, 4).value for index in range(30)} == {state}


def test_who_has_left_is_not_sought_and_may_come_back(new_world, members_kit) -> None:
    world = new_world()
    world.start_many(8)
    world.publish(4, members_kit.offer(Phase.LEFT))
    world.run(1.0)
    world.kill(4)
    world.run(60.0)
    assert {world.state(index, 4) for index in range(8) if index != 4} == {MemberState.LEFT}

    world.start(4, epoch=2, via=0)

    assert world.run_until(world.agrees, 5.0) <= 5.0


def test_a_revoked_node_is_cut_off_by_all_and_heard_by_nobody(new_world, members_kit) -> None:
    world = new_world()
    world.start_many(16)

    world.revoke(at=0, index=9)
    world.run(3.0)

    others = [index for index in range(16) if index != 9]
    assert {world.state(index, 9) for index in others} == {MemberState.REVOKED}
    assert not world.host(9).sessions
    world.connect(9, 2)
    world.publish(9, members_kit.offer(cpu_milli=7))
    world.run(3.0)
    assert {world.state(index, 9) for index in others} == {MemberState.REVOKED}
    assert not world.host(9).sessions


def test_a_newcomer_learns_who_is_revoked_before_it_believes_them(new_world, members_kit) -> None:
    world = new_world()
    world.start_many(6)
    world.revoke(at=0, index=3)
    world.run(3.0)
    world.kill(3)

    world.start(20, via=1)
    world.run(15.0)

    newcomer = world.host(20).machine
    assert newcomer.holds_revocation(members_kit.node_of(3), "lab")
    assert newcomer.member(members_kit.node_of(3)) is None


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("refresh_s", [30.0, 10_000.0])
def test_a_split_mesh_becomes_one_again_by_itself(new_world, seed: int, refresh_s: float) -> None:
    """With refreshes newer versions revive the other half; without, those who were buried are told and answer."""
    world = new_world(seed, MembershipConfig(refresh_s=refresh_s))
    world.start_many(24)
    world.split(lambda node: node[5] & 1)
    world.run(60.0)
    assert not world.agrees(0.01), "each half has buried the other one"

    world.heal()

    assert world.run_until(world.agrees, 30.0) <= 30.0, f"repeat with seed={seed}"


def test_what_clears_a_suspect_and_is_found_by_one_is_told_to_all(new_world, members_kit) -> None:
    """It was refuted on the other side of a split: those on this side suspect it on, and would bury it once more."""
    world = new_world()
    world.start_many(8)
    accused, held = world.host(5).node, world.host(5).version
    world.split(lambda node: node == accused)
    world.run_until(lambda: all(world.state(index, 5) is MemberState.SUSPECT for index in (1, 2, 3, 4)), 10.0)
    newer = Version(held.epoch, held.sequence + 1)

    world.tell(0, 1, [members_kit.verified(accused, newer, members_kit.offer())])
    world.run(1.0)

    assert {world.host(index).machine.member(accused).version for index in (1, 2, 3, 4)} == {newer}


def test_who_missed_what_a_node_said_hears_of_it_with_the_next_session(new_world, members_kit) -> None:
    """All had told of its restart as often as they do before the link was there: only a repair found it, 40 s later."""
    world = new_world(0, MembershipConfig(repair_s=10_000.0))
    world.start_many(8)
    world.split(lambda node: node == members_kit.node_of(2))
    restarted = world.host(5)
    world.publish(5, members_kit.offer(cpu_milli=7))
    world.run(4.0)
    assert world.host(2).machine.member(restarted.node).version < restarted.version

    world.side = lambda _: None
    world.connect(2, 5)
    world.run(0.5)

    assert world.host(2).machine.member(restarted.node).version >= restarted.version


def test_a_node_that_was_cut_off_alone_comes_back(new_world, members_kit) -> None:
    world = new_world()
    world.start_many(10)
    world.split(lambda node: node == members_kit.node_of(2))
    world.run(90.0)
    assert len(world.living(world.host(2))) == 1

    world.heal()

    assert world.run_until(world.agrees, 40.0) <= 40.0


def test_the_dead_are_forgotten_by_all_and_nobody_brings_them_back(new_world, members_kit) -> None:
    """memberlist's full sync revived gone nodes for hours. Newcomers come all the while."""
    world = new_world(0, MembershipConfig(tombstone_s=120.0))
    world.start_many(8)
    world.kill(1)
    for index in range(8, 20):
        world.run(20.0)
        world.start(index, via=0)
    world.run(60.0)

    assert {world.state(index, 1) for index in range(20) if index != 1} == {None}
    heard = [change.state for change in world.host(0).changes if change.node == members_kit.node_of(1)]
    assert heard[-1] is MemberState.DEAD


def test_a_quiet_mesh_says_little(new_world) -> None:
    """Bytes a second of each node: 0.3 KB at ten nodes; rumours of refreshes, probes, and a summary now and then."""
    world = new_world()
    world.start_many(10, 120.0)
    for host in world.hosts.values():
        host.sent.clear()

    world.run(120.0)

    assert sum(world.sent_bytes().values()) / 10 / 120 <= 300


def test_a_load_is_answered_and_never_a_rumour(new_world, members_kit) -> None:
    world = new_world()
    world.start_many(3)
    busy = Load(3, 4)

    world.load(1, busy)
    world.run(10.0)

    assert world.host(0).machine.member(members_kit.node_of(1)).load == busy
    assert world.host(1).version == Version(1, 2)


def test_wakes_never_lie_in_the_past_and_a_tick_in_vain_does_nothing(new_world) -> None:
    world = new_world()
    host = world.start(0)
    world.tick(host)
    world.tick(host)

    assert host.wake_at is None or host.wake_at >= world.now


def test_a_probe_that_suspects_this_node_makes_it_publish_a_newer_version(new_world, members_kit) -> None:
    world = new_world()
    world.start_many(3)
    before = world.host(1).version

    world.send(0, 1, Probe(1, before))
    world.run(1.0)

    assert world.host(1).version > before
    assert world.host(2).machine.member(members_kit.node_of(1)).version > before


def test_a_node_that_missed_a_death_finds_out_from_peers_and_its_own_dial(new_world, members_kit) -> None:
    """Its lease would last for hours, and every newcomer would have the ghost from it."""
    world = new_world(0, MembershipConfig(refresh_s=3_600.0))
    world.start_many(20)
    ghost = world.start(20, via=3)
    world.run(5.0)
    missed = [members_kit.verified(ghost.node, Version(1, 1), members_kit.core(20))]
    missed.append(members_kit.verified(ghost.node, Version(1, 2), members_kit.offer()))
    world.kill(20)
    world.run(30.0)
    late = world.start(21, via=4)
    world.tell(4, 21, missed)
    world.run(0.5)
    assert world.state(21, 20) in (MemberState.ALIVE, MemberState.SUSPECT)

    assert world.run_until(world.agrees, 180.0) <= 180.0
    assert late.machine.member(ghost.node).state is MemberState.DEAD


def test_one_peers_word_and_a_dial_that_fails_bury_nobody(new_world, members_kit) -> None:
    """Two nodes behind different NATs never reach each other; a liar may be the third."""
    disputes, node, version = Disputes(10.0), members_kit.node_of(1), Version(1, 2)
    liar, other = members_kit.node_of(2), members_kit.node_of(3)

    assert disputes.add(node, version, liar, 0.0)
    assert not disputes.add(node, version, liar, 1.0)
    assert not disputes.confirmed(node, version, 1.0)
    assert disputes.add(node, version, other, 2.0)
    assert disputes.confirmed(node, version, 2.0)
    assert not disputes.confirmed(node, version, 100.0)


def test_a_peer_that_disputes_each_new_version_of_a_member_is_heeded_once(members_kit) -> None:
    """Else one liar would have many nodes dial a member again and again, and the member publish without end."""
    disputes, node, liar = Disputes(10.0), members_kit.node_of(1), members_kit.node_of(2)

    heeded = [disputes.add(node, Version(1, sequence), liar, sequence / 10) for sequence in range(100)]

    assert heeded == [True] + [False] * 99
    assert disputes.version(node, 10.0) == Version(1, 99)
    assert disputes.add(node, Version(1, 99), members_kit.node_of(3), 10.0)
    assert disputes.add(node, Version(1, 200), liar, 100.0)


def test_colluding_observers_who_accuse_versions_to_come_bury_nobody(new_world, members_kit) -> None:
    """Else the accused says one newer version after the other, none of them newer than what it is accused of."""
    world = new_world()
    world.start_many(11)
    victim, liars = world.host(5).node, range(6, 10)
    held = world.host(0).machine.member(victim).version
    ahead = Version(held.epoch, held.sequence + 16)

    for liar in liars:
        lies = [Claim(members_kit.mesh, members_kit.node_of(liar), victim, ahead, verdict) for verdict in Verdict]
        for index in set(range(11)) - {liar}:
            world.send(liar, index, Rumours([], [members_kit.claimed(lie).signed for lie in lies], [], b""))
    seen = set()
    for _ in range(300):
        world.run(0.1)
        seen |= {world.state(index, 5) for index in range(11)}

    assert seen == {MemberState.ALIVE, MemberState.SUSPECT}
    assert {world.state(index, 5) for index in range(11)} == {MemberState.ALIVE}
