import dataclasses
import itertools
import os

import pytest

from meshd_node.capacity.measure import Capacity, make_offer, measure, platform_text, slots_of
from meshd_node.capacity.speed import python_loops_per_s
from meshd_node.charter.config import CharterConfig
from meshd_protocol.records import CageLevel, Gpu, Offer, Phase, decode_record, encode_record

CAPACITY = Capacity(
    cpu_milli=3500,
    memory_bytes=1000,
    gpus=(Gpu("GPU-1", "A100", 5),),
    python="3.11",
    platform="Linux 6.1 x86_64",
    python_loops_per_s=10,
)


def offer(capacity: Capacity = CAPACITY, slots: int = 0, memory_bytes: int = 0) -> Offer:
    return make_offer(
        capacity,
        phase=Phase.ALIVE,
        slots=slots,
        memory_bytes=memory_bytes,
        cage=CageLevel.NONE,
        own_operator_only=True,
    )


def test_this_machine_can_be_measured_and_offered() -> None:
    made = offer(measure())

    assert decode_record(Offer, encode_record(made)) == made
    assert made.cpu_milli > 0
    assert made.memory_bytes > 0
    assert made.python_loops_per_s > 0


def test_whole_cpus_make_slots_unless_the_operator_says_how_many() -> None:
    assert slots_of(CharterConfig(), CAPACITY) == 3
    assert slots_of(CharterConfig(slots=7), CAPACITY) == 7


def test_less_than_a_cpu_still_makes_one_slot() -> None:
    assert slots_of(CharterConfig(), dataclasses.replace(CAPACITY, cpu_milli=500)) == 1


def test_a_node_that_runs_nothing_offers_no_slot() -> None:
    assert offer(slots=0).slots == 0


@pytest.mark.parametrize(("bound", "lent"), [(0, 1000), (400, 400), (5000, 1000)])
def test_memory_is_what_is_there_or_the_operators_bound(bound: int, lent: int) -> None:
    assert offer(memory_bytes=bound).memory_bytes == lent


def test_the_fastest_round_counts() -> None:
    """Rounds of 1 s by a clock on which a chunk of 2,000 loops takes 0.5 s at first, and then 0.125 s."""
    slow = [0.0, 0.0, 0.5, 1.0]
    fast = [10.0, 10.0, *(10.0 + i / 8 for i in range(1, 9))]
    clock = itertools.chain(slow, fast).__next__

    assert python_loops_per_s(clock, rounds=2, round_s=1.0) == 16_000


def test_a_long_platform_name_keeps_its_architecture() -> None:
    name = os.uname_result(("Linux", "x" * 300, "r" * 300, "v", "riscv64"))

    assert platform_text(name).endswith(" riscv64")
    assert len(platform_text(name)) == 200
