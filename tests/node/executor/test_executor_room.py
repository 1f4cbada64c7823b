"""Workers of several slots, memory and GPUs: what fits runs, what never fits is refused, large work gets its turn."""

import pytest

from meshd_node.core.executor.effects import EndWorker, StartWorker
from meshd_node.core.executor.events import Lent, OwnerLost, OwnerUp, WorkerReady
from meshd_node.core.submitter import Submitter
from meshd_node.core.tenant import Harness, Tenant
from meshd_protocol.messages.attempts import AttemptStatus as S
from meshd_protocol.records import Gpu

ALICE, BOB = b"a" * 20, b"b" * 20
GIB = 1 << 30
SMALL = Gpu("GPU-small", "T4", 16 * GIB)
LARGE = Gpu("GPU-large", "H200", 140 * GIB)
SLICE = Gpu("MIG-1", "H200 MIG 1g", 20 * GIB)
WIDE = Harness(cpu_milli=4_000)


def up(new_bench, lent: Lent, **config: int):
    bench = new_bench(lent=lent, **config)
    for owner in (ALICE, BOB):
        bench.send(OwnerUp(owner))
    return bench


def of(owner: bytes, harness: Harness = Harness(), uid: int = 0) -> Tenant:  # noqa: B008  # a value
    return Tenant(Submitter(owner, uid), harness)


def served(bench) -> list[Tenant]:
    return [bench.tenant_of[run.worker] for run in bench.runs]


# --- what fits --------------------------------------------------------------------------------------------------------


def test_a_worker_takes_a_slot_for_each_cpu_that_is_begun(new_bench):
    bench = up(new_bench, Lent(4, 4 * GIB))

    bench.lease(*range(4), harness=Harness(cpu_milli=1_500))

    assert len(bench.live) == 2, "two of two slots each"
    bench.run_all()
    assert sorted(bench.ended(S.RETURNED)) == [0, 1, 2, 3]


def test_memory_bounds_how_many_work_though_slots_are_free(new_bench):
    bench = up(new_bench, Lent(8, 8 * GIB))

    bench.lease(*range(8), harness=Harness(memory_bytes=3 * GIB))

    assert len(bench.live) == 2
    assert [bench.memory_of[worker] for worker in bench.live] == [3 * GIB] * 2


def test_work_that_asks_for_no_memory_is_held_to_an_even_share_for_its_slots(new_bench):
    bench = up(new_bench, Lent(4, 8 * GIB))

    bench.lease(0)
    bench.lease(1, harness=Harness(cpu_milli=2_000))

    assert [bench.memory_of[worker] for worker in sorted(bench.live)] == [2 * GIB, 4 * GIB]


def test_a_charter_may_leave_work_that_asks_for_no_memory_unbounded(new_bench):
    bench = up(new_bench, Lent(4, 8 * GIB, bound_unasked=False))

    bench.lease(0)
    bench.lease(1, harness=Harness(memory_bytes=GIB))

    assert [bench.memory_of[worker] for worker in sorted(bench.live)] == [0, GIB]


@pytest.mark.parametrize(
    ("harness", "why"),
    [
        (Harness(cpu_milli=4_001), "needs 4.001 cpus, this node lends 4"),
        (Harness(memory_bytes=5 * GIB), "needs 5120 MiB of memory, this node lends 4096"),
        (Harness(scratch_bytes=2 * GIB), "needs 2048 MiB of scratch space, this node lends 1024"),
        (Harness(gpus=4), "needs 4 GPUs, it has 3"),
        (Harness(gpus=1, gpu_memory_bytes=150 * GIB), "needs 1 GPU with 153600 MiB each, it has 16384, 143360, 20480"),
        (Harness(gpus=3), "needs 3 whole GPUs, it has 16384, 143360, 20480 (a slice)"),
    ],
)
def test_what_never_fits_is_refused_with_the_reason(new_bench, harness: Harness, why: str):
    bench = up(new_bench, Lent(4, 4 * GIB, (SMALL, LARGE, SLICE)))

    bench.lease(7, harness=harness)

    assert bench.ended(S.REFUSED) == [7]
    assert why in bench.details[7, 0]
    assert not bench.live


# --- GPUs -------------------------------------------------------------------------------------------------------------


def test_a_gpu_is_one_workers_at_a_time(new_bench):
    bench = up(new_bench, Lent(8, 8 * GIB, (SMALL, LARGE)))

    bench.lease(*range(6), harness=Harness(gpus=1))

    assert sorted(bench.gpus_of[worker] for worker in bench.live) == [("GPU-large",), ("GPU-small",)]
    bench.run_all()
    assert len(bench.ended(S.RETURNED)) == 6


def test_the_smallest_gpu_that_is_enough_is_given_and_the_large_one_kept_for_whoever_needs_it(new_bench):
    bench = up(new_bench, Lent(8, 8 * GIB, (LARGE, SMALL)))

    bench.lease(0, harness=Harness(gpus=1))
    bench.lease(1, harness=Harness(gpus=1, gpu_memory_bytes=40 * GIB))

    assert [bench.gpus_of[worker] for worker in sorted(bench.live)] == [("GPU-small",), ("GPU-large",)]


def test_a_gpu_that_is_shared_on_purpose_has_as_many_workers_as_its_memory_holds(new_bench):
    bench = up(new_bench, Lent(8, 8 * GIB, (SMALL,), gpu_workers=4))

    bench.lease(*range(8), harness=Harness(gpus=1, gpu_memory_bytes=6 * GIB))

    assert [bench.gpus_of[worker] for worker in bench.live] == [("GPU-small",)] * 2, "two of 6 GiB fit in 16"


def test_slices_of_a_card_serve_workers_of_one_gpu_only(new_bench):
    bench = up(new_bench, Lent(8, 8 * GIB, (SLICE, SMALL, LARGE)))

    bench.lease(0, harness=Harness(gpus=2))
    bench.lease(1, harness=Harness(gpus=1))

    assert [bench.gpus_of[worker] for worker in sorted(bench.live)] == [("GPU-small", "GPU-large"), ("MIG-1",)]


def test_work_without_a_gpu_goes_on_beside_work_that_waits_for_one(new_bench):
    bench = up(new_bench, Lent(4, 4 * GIB, (SMALL,)))
    bench.lease(0, harness=Harness(gpus=1))
    bench.ready()
    bench.lease(1, 2, owner=BOB, harness=Harness(gpus=1))

    bench.lease(3, 4, 5, owner=BOB)

    assert len(bench.workers_of(of(BOB))) == 3
    assert not bench.workers_of(of(BOB, Harness(gpus=1)))


def test_an_idle_worker_gives_its_gpu_to_others(new_bench):
    bench = up(new_bench, Lent(4, 4 * GIB, (SMALL,)))
    bench.lease(0, harness=Harness(gpus=1))
    bench.run_all()

    bench.lease(1, owner=BOB, harness=Harness(gpus=1))
    bench.run_all()

    assert bench.ended(S.RETURNED) == [0, 1]


# --- large work among small -------------------------------------------------------------------------------------------


def crowd(bench, turns: int, unit_s: float = 0.05, want: Tenant | None = None) -> int:
    """Let Alice's small units go on without end; return after how many Bob's large one was served."""
    unit = 1_000
    for turn in range(turns):
        while bench.machine.queued < 8:
            bench.lease(unit, unit + 1)
            unit += 2
        bench.ready()
        if want is not None and want in served(bench):
            return turn
        bench.wait(unit_s)
        for worker in [worker for worker in sorted(bench.live) if bench.given[worker]]:
            if worker in bench.live:
                bench.ran(worker, *list(bench.given[worker]), took_us=int(unit_s * 1e6))
    return turns


def test_large_work_is_not_starved_by_small_work_that_never_ends(new_bench):
    bench = up(new_bench, Lent(4, 4 * GIB))
    crowd(bench, 5)
    bench.lease(1, owner=BOB, harness=WIDE)

    assert crowd(bench, 40, want=of(BOB, WIDE)) < 20, "within a second: a turn is 0.2 s"


def test_a_users_own_small_work_gives_way_to_the_same_users_large_work(new_bench):
    bench = up(new_bench, Lent(4, 4 * GIB))
    crowd(bench, 5)
    bench.lease(1, harness=WIDE)

    assert crowd(bench, 40, want=of(ALICE, WIDE)) < 20


def test_work_that_needs_nearly_all_memory_gets_it(new_bench):
    bench = up(new_bench, Lent(4, 8 * GIB))
    hungry = Harness(memory_bytes=7 * GIB)
    crowd(bench, 5)
    bench.lease(1, owner=BOB, harness=hungry)

    assert crowd(bench, 40, want=of(BOB, hungry)) < 20


def test_room_that_is_kept_for_large_work_in_vain_goes_back_to_small_work(new_bench):
    """One of Alice's units runs for an hour: what is kept beside it would lie idle for as long."""
    bench = up(new_bench, Lent(4, 4 * GIB), hold_ms=1_000)
    bench.lease(*range(4))
    bench.ready()
    bench.wait(0.3)
    stuck = bench.workers_of(of(ALICE))[0]
    bench.lease(50, owner=BOB, harness=WIDE)
    for worker in bench.workers_of(of(ALICE))[1:]:
        bench.ran(worker, *list(bench.given[worker]))
    bench.lease(60, 61, 62)
    assert bench.workers_of(of(ALICE)) == [stuck], "room is kept"

    bench.wait(1.1)
    bench.ready()

    assert len(bench.workers_of(of(ALICE))) == 4, "and let go after a second"
    assert not bench.workers_of(of(BOB, WIDE))


def test_room_that_was_kept_for_work_that_is_recalled_wakes_nobody_for_ever(new_bench):
    """Its end lay in the past and was wished for again at every tick."""
    bench = up(new_bench, Lent(2, 2 * GIB))
    bench.lease(0, 1)
    bench.ready()
    bench.wait(0.3)
    bench.lease(50, owner=BOB, harness=Harness(cpu_milli=2_000))
    idle = bench.workers_of(of(ALICE))[1]
    bench.ran(idle, *list(bench.given[idle]))
    assert idle not in bench.live, "room is kept"
    bench.send(OwnerLost(BOB))

    bench.wait(10)

    assert bench.wake_at > bench.now


def test_room_is_kept_for_longer_each_time_until_large_work_has_run(new_bench):
    """Alice's units take 1.5 s and end one after the other: a second of keeping is never enough, four are."""
    bench = up(new_bench, Lent(2, 2 * GIB), hold_ms=1_000)
    wide = Harness(cpu_milli=2_000)
    unit = 100
    bench.lease(0)
    bench.ready()
    bench.wait(0.75)
    bench.lease(1)
    bench.ready()
    bench.lease(50, owner=BOB, harness=wide)

    for _ in range(100):
        bench.lease(unit, unit + 1)
        unit += 2
        bench.wait(0.75)
        oldest = min((worker for worker in bench.live if bench.given[worker]), default=None)
        if oldest is not None:
            bench.ran(oldest, *list(bench.given[oldest]), took_us=1_500_000)
        bench.ready()
        if of(BOB, wide) in served(bench):
            break

    assert of(BOB, wide) in served(bench)


def test_two_large_tenants_do_not_end_each_other_after_every_unit(new_bench):
    bench = up(new_bench, Lent(4, 4 * GIB), turn_ms=200)
    unit, seconds = 0, 2
    for _ in range(seconds * 100):
        for owner in (ALICE, BOB):
            bench.lease(unit, owner=owner, harness=WIDE)
            unit += 1
        bench.ready()
        bench.wait(0.01)
        for worker in [worker for worker in sorted(bench.live) if bench.given[worker]]:
            bench.ran(worker, *list(bench.given[worker]), took_us=10_000)

    counts = [served(bench).count(of(owner, WIDE)) for owner in (ALICE, BOB)]
    assert len(bench.killed) <= seconds * 5 + 1, "a turn lasts 0.2 s"
    assert min(counts) > max(counts) // 2


def test_inventing_kinds_of_work_gains_no_slots(new_bench):
    bench = up(new_bench, Lent(4, 4 * GIB))
    for kind in range(10):
        bench.lease(*range(kind * 20, kind * 20 + 20), harness=Harness(cpu_milli=100 + kind))
    bench.lease(*range(20), owner=BOB)
    bench.ready()
    for _ in range(200):
        for worker in sorted(bench.live):
            if worker in bench.live and (serials := list(bench.given[worker])):
                bench.now += 0.001
                bench.ran(worker, serials[0], took_us=20_000)
        bench.ready()
        bobs = sum(bench.tenant_of[worker].submitter.node == BOB for worker in bench.live)
        if bobs == 2:
            break

    assert bobs == 2, "half of the slots are a node's due, whatever the other one asks for"


# --- what is lent changes ---------------------------------------------------------------------------------------------


def test_workers_beyond_what_is_lent_finish_their_units_and_end(new_bench):
    bench = up(new_bench, Lent(4, 4 * GIB))
    bench.lease(*range(4))
    bench.ready()

    bench.lend(Lent(1, GIB))
    assert len(bench.live) == 4, "none is ended in its unit"
    assert bench.windows[ALICE] == 2
    bench.run_all()

    assert sorted(bench.ended(S.RETURNED)) == [0, 1, 2, 3]
    assert len(bench.live) == 1


def test_idle_workers_end_at_once_when_less_is_lent(new_bench):
    bench = up(new_bench, Lent(4, 4 * GIB))
    bench.lease(*range(4))
    bench.run_all()

    bench.lend(Lent(1, GIB))

    assert len(bench.live) == 1


def test_work_that_no_longer_fits_is_handed_back_with_the_reason(new_bench):
    bench = up(new_bench, Lent(4, 4 * GIB))
    bench.lease(0, 1, harness=WIDE)
    bench.ready()

    bench.lend(Lent(2, 2 * GIB))

    assert bench.ended(S.HANDED_BACK) == [1]
    assert "needs 4 cpus, this node lends 2" in bench.details[1, 0]
    bench.run_all()
    assert bench.ended(S.RETURNED) == [0]
    assert not bench.live


def test_a_gpu_that_is_lost_ends_its_worker_gently_and_refuses_what_needs_it(new_bench):
    bench = up(new_bench, Lent(4, 4 * GIB, (SMALL,)))
    bench.lease(0, 1, 2, harness=Harness(gpus=1))
    bench.ready()

    bench.lend(Lent(4, 4 * GIB))
    bench.run_all()

    assert bench.ended(S.RETURNED) == [0]
    assert bench.ended(S.HANDED_BACK) == [1, 2]
    assert not bench.live
    bench.lease(3, harness=Harness(gpus=1))
    assert bench.ended(S.REFUSED) == [3]


def test_a_gpu_that_comes_back_is_used_again(new_bench):
    bench = up(new_bench, Lent(4, 4 * GIB))
    bench.lend(Lent(4, 4 * GIB, (SMALL,)))

    bench.lease(0, harness=Harness(gpus=1))
    bench.run_all()

    assert bench.ended(S.RETURNED) == [0]


def test_more_that_is_lent_gets_more_workers_at_once(new_bench):
    bench = up(new_bench, Lent(1, GIB))
    bench.lease(*range(8))

    bench.lend(Lent(4, 4 * GIB))

    assert len(bench.live) == 4
    assert bench.windows[ALICE] == 8


def test_a_worker_that_was_to_leave_stays_if_more_is_lent_again(new_bench):
    bench = up(new_bench, Lent(2, 2 * GIB))
    bench.lease(0, 1)
    bench.ready()
    bench.lend(Lent(1, GIB))
    bench.lend(Lent(2, 2 * GIB))

    bench.run_all()

    assert len(bench.live) == 2
    assert not bench.killed


def test_nothing_is_taken_while_nothing_is_lent(new_bench):
    bench = up(new_bench, Lent(2, 2 * GIB))
    bench.lend(Lent(0, 0))

    assert bench.windows[ALICE] == 0
    bench.lease(0)
    assert bench.ended(S.REFUSED) == [0]
    bench.lend(Lent(2, 2 * GIB))
    assert bench.windows[ALICE] == 4


def test_one_user_with_two_kinds_of_work_has_workers_of_each(new_bench):
    """A worker serves one tenant: another harness is another worker, even of the same user."""
    bench = up(new_bench, Lent(2, 4 * GIB))
    one, other = Harness(memory_bytes=GIB), Harness(memory_bytes=2 * GIB)
    bench.lease(0, harness=one)
    effects = bench.lease(1, harness=other)

    assert [effect.tenant for effect in effects if isinstance(effect, StartWorker)] == [of(ALICE, other)]
    bench.run_all()
    assert sorted(bench.ended(S.RETURNED)) == [0, 1]


def test_a_large_worker_takes_the_place_of_several_idle_ones(new_bench):
    bench = up(new_bench, Lent(4, 4 * GIB))
    bench.lease(*range(4))
    bench.run_all()

    effects = bench.lease(9, owner=BOB, harness=WIDE)

    assert sum(isinstance(effect, EndWorker) for effect in effects) == 4
    for number in list(bench.starting):
        bench.starting.remove(number)
        bench.send(WorkerReady(number))
    assert served(bench)[-1] == of(BOB, WIDE)
