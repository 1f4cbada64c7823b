"""Looks at GPUs: which node is next, and what was seen against what was offered."""

import random

import pytest

from meshd_node.core.owner.spot_checks import SpotChecks, fault_of
from meshd_protocol.records import Gpu

GIB = 1 << 30
UUID = "8f0a1b2c-0000-1111-2222-333344445555"
CARD = Gpu(f"GPU-{UUID}", "T4", 16 * GIB)
SEEN = [(UUID, 16 * GIB)]


@pytest.mark.parametrize(
    ("seen", "words"),
    [
        (SEEN, ""),
        ([(UUID, int(15.2 * GIB))], ""),
        ([], "saw none"),
        ([(UUID, 8 * GIB)], "with 8192 MiB, its offer says 16384"),
        ([("00000000-0000-1111-2222-333344445555", 16 * GIB)], "which is not in its offer"),
    ],
)
def test_what_was_seen_is_held_against_the_offer(seen, words: str):
    fault = fault_of(seen, [CARD])

    assert bool(fault) == bool(words)
    assert words in fault


def test_a_slice_and_a_card_are_known_by_the_digits_of_their_uuid():
    assert not fault_of(SEEN, [Gpu(f"MIG-{UUID.upper()}", "slice", 10 * GIB)])


@pytest.fixture
def offers(rig) -> dict[bytes, object]:
    return {rig.node_id(name): rig.view(name, gpus=gpus).offer for name, gpus in (("a", 1), ("b", 2), ("c", 0))}


def test_nodes_with_gpus_are_looked_at_one_after_the_other_and_then_left_in_peace_for_hours(offers):
    checks, looked, now = SpotChecks(random.Random(1)), [], 0.0
    for _ in range(60):
        node = checks.choose(offers, now)
        if node is not None:
            assert checks.choose(offers, now) is None, "one look at a time"
            looked.append(node)
            checks.ended([(offers[node].gpus[0].uuid, 1 << 34)], offers[node], now)
        now += 60

    assert sorted(looked) == sorted(node for node, offer in offers.items() if offer.gpus)
    assert checks.choose(offers, now + 9 * 3_600) is not None


def test_who_showed_nothing_or_said_nothing_is_looked_at_again_within_minutes(offers, rig):
    alone = {rig.node_id("a"): offers[rig.node_id("a")]}
    for seen in ([], None):
        checks = SpotChecks(random.Random(2))
        node = checks.choose(alone, 0.0)
        fault = checks.ended(seen, alone[node], 0.0)
        assert fault is None if seen is None else "saw none" in fault
        assert checks.choose(alone, 200.0) is None
        assert checks.choose(alone, 1_000.0) == node


def test_when_a_node_is_looked_at_again_differs_by_seed_and_repeats_with_it(offers):
    def looks(seed: int) -> list[tuple[int, bytes]]:
        checks, found = SpotChecks(random.Random(seed)), []
        for minute in range(3_000):
            if (node := checks.choose(offers, minute * 60.0)) is not None:
                found.append((minute, node))
                checks.ended([(gpu.uuid, 1 << 34) for gpu in offers[node].gpus], offers[node], minute * 60.0)
        return found

    assert looks(1) == looks(1)
    assert looks(1) != looks(2)


def test_a_node_that_left_while_it_was_looked_at_is_not_judged(offers):
    checks = SpotChecks(random.Random(3))
    checks.choose(offers, 0.0)

    assert checks.ended([], None, 1.0) is None
