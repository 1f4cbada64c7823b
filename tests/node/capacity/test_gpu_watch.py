"""What of the GPUs is lent from one survey to the next: free memory, faults, and what comes back."""

from meshd_node.capacity.gpu_watch import GpuWatch
from meshd_node.capacity.gpus import GpuSurvey
from meshd_protocol.records import Gpu

GIB = 1 << 30
MIB = 1 << 20


def found(**free: int) -> GpuSurvey:
    """A survey of cards of 40 GiB, each with so much of it free."""
    return GpuSurvey(tuple(Gpu(uuid, "A100", 40 * GIB) for uuid in free), tuple(free.values()))


def watching(**free: int) -> GpuWatch:
    watch = GpuWatch()
    watch.look(found(**free), ())
    return watch


def test_a_gpu_is_lent_with_the_memory_that_is_free_on_it() -> None:
    watch = watching(one=40 * GIB - 5, two=10 * GIB)

    assert [gpu.memory_bytes for gpu in watch.gpus] == [40 * GIB - 256 * MIB, 10 * GIB]


def test_what_the_nodes_own_work_fills_is_not_missing() -> None:
    watch = watching(one=40 * GIB)

    assert not watch.look(found(one=2 * GIB), {"one"})
    assert watch.gpus[0].memory_bytes == 40 * GIB


def test_a_program_of_the_machines_owner_takes_memory_away_and_gives_it_back() -> None:
    watch = watching(one=40 * GIB)

    assert watch.look(found(one=20 * GIB), ())
    assert watch.gpus[0].memory_bytes == 20 * GIB
    assert watch.look(found(one=40 * GIB), ())
    assert watch.gpus[0].memory_bytes == 40 * GIB


def test_a_desktop_that_draws_changes_no_offer() -> None:
    watch = watching(one=40 * GIB)

    assert not watch.look(found(one=40 * GIB - 200 * MIB), ())
    assert not watch.look(found(one=40 * GIB), ())


def test_a_gpu_that_somebody_else_has_filled_is_not_lent() -> None:
    watch = watching(one=40 * GIB, two=40 * GIB)

    assert watch.look(found(one=100 * MIB, two=40 * GIB), ())
    assert [gpu.uuid for gpu in watch.gpus] == ["two"]
    assert watch.faults == ("one (A100) is not lent: other programs use its memory",)


def test_a_gpu_with_a_fault_vanishes_even_under_work_and_comes_back_when_it_is_well() -> None:
    watch = watching(one=40 * GIB)

    assert watch.look(GpuSurvey(faults=("GPU 0 can not be used: GPU is lost",)), {"one"})
    assert (watch.gpus, watch.faults) == ((), ("GPU 0 can not be used: GPU is lost",))
    assert watch.look(found(one=40 * GIB), ())
    assert [gpu.uuid for gpu in watch.gpus] == ["one"]
    assert watch.faults == ()
