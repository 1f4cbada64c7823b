"""Detectors together, in virtual time: crashes are found, stalls and liars kill nobody."""

import random
import statistics
from collections.abc import Callable
from typing import Any

import pytest

from meshd_protocol.records import Verdict

Make = Callable[..., Any]


@pytest.mark.parametrize("size", [2, 3, 5, 16])
def test_a_crash_is_known_to_all_and_nobody_else_is_buried(net: Make, size: int) -> None:
    """The median over a few seeds: 6 s is the goal at 16 nodes."""
    took = []
    for seed in range(5):
        mesh = net(size, seed)
        mesh.run(5.0 + seed / 3)
        victim = sorted(mesh.hosts)[seed % size]
        crashed_at = mesh.now
        mesh.crash(victim)
        mesh.run(crashed_at + 40.0)
        assert len(mesh.believed_dead(victim)) == size - 1, f"seed={seed}"
        assert len(mesh.deaths) == size - 1, f"seed={seed}"
        took.append(max(mesh.believed_dead(victim)) - crashed_at)
    assert statistics.median(took) <= 6.0


@pytest.mark.parametrize("seed", range(3))
def test_links_that_stall_for_three_seconds_kill_nobody(net: Make, seed: int) -> None:
    """A quarter of all links at any time, each in order again when it goes on: TLS over a bad network."""
    mesh, rng = net(16, seed), random.Random(seed)

    def stall() -> None:
        for host in mesh.hosts.values():
            for peer in host.detector.connected:
                if host.node < peer and rng.random() < 0.125:
                    mesh.stalled[frozenset((host.node, peer))] = mesh.now + rng.uniform(1.0, 3.0)
        mesh.at(mesh.now + 1.0, stall)

    mesh.at(5.0, stall)
    mesh.run(60.0)

    assert mesh.deaths == [], f"repeat with seed={seed}"


@pytest.mark.parametrize("seed", range(2))
def test_a_fifth_of_liars_who_agree_bury_nobody(net: Make, claim: Make, seed: int) -> None:
    mesh, rng = net(20, seed), random.Random(seed)
    liars = rng.sample(range(20), 4)
    victims = [index for index in range(20) if index not in liars][:2]
    nodes = sorted(mesh.hosts)

    def slander() -> None:
        for victim in victims:
            version = mesh.hosts[nodes[victim]].roster.get(nodes[victim]).version
            for liar in liars:
                for verdict in Verdict:
                    lie = claim(liar, victim, verdict, version.sequence)
                    for index in range(20):
                        if index not in liars:
                            mesh.tell(nodes[index], lie, rng.uniform(0.05, 0.5))
        mesh.at(mesh.now + 2.0, slander)

    mesh.at(5.0, slander)
    mesh.run(15.0)

    assert mesh.deaths == [], f"repeat with seed={seed}"
    assert all(mesh.hosts[nodes[victim]].roster.get(nodes[victim]).version.sequence > 3 for victim in victims)


def test_every_node_is_probed_about_once_a_second(net: Make) -> None:
    """By all of its observers together, at times that they did not agree on."""
    mesh = net(16, 1)
    mesh.run(65.0)

    counts = [host.probed for host in mesh.hosts.values()]
    assert statistics.mean(counts) == pytest.approx(65.0, rel=0.1)
