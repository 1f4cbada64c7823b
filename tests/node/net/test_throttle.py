"""A bound on what is sent in large messages: on average, in slices of a tenth of a second, for all links together."""

import pytest

from meshd_node.net.slices import Slicer
from meshd_node.net.throttle import Throttle
from meshd_protocol.framing import Frame
from meshd_protocol.limits import KIB, MIB, SLICE_BYTES_MAX


class Clock:
    """Moves when told."""

    now = 50.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def seconds_for(size: int, throttle: Throttle, clock: Clock, links: int = 1) -> float:
    """How long messages of `size` bytes take to leave on so many links."""
    slicers = [Slicer(throttle) for _ in range(links)]
    for slicer in slicers:
        slicer.put(Frame(0x34, 1, bytes(size)))
    began, out = clock.now, bytearray()
    while any(slicer.queued_bytes for slicer in slicers):
        for slicer in slicers:
            if slicer.queued_bytes and not slicer.pause_s():
                slicer.append_next(out)
                out.clear()
        clock.now += max(throttle.pause_s(), 1e-9)
    return clock.now - began


def test_without_a_bound_nothing_waits(clock: Clock) -> None:
    throttle = Throttle(clock)

    assert throttle.slice_bytes == SLICE_BYTES_MAX
    assert seconds_for(10 * MIB, throttle, clock) == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("links", [1, 3])
def test_all_links_together_send_no_faster_than_the_bound(clock: Clock, links: int) -> None:
    throttle = Throttle(clock)
    throttle.limit(MIB)

    assert seconds_for(5 * MIB, throttle, clock, links) == pytest.approx(5 * links, rel=0.1)


def test_what_was_not_sent_is_made_up_for_within_half_a_second_only(clock: Clock) -> None:
    throttle = Throttle(clock)
    throttle.limit(MIB)
    clock.now += 3_600

    assert seconds_for(5 * MIB, throttle, clock) == pytest.approx(4.5, rel=0.1)


def test_a_slow_link_sends_small_slices_so_that_others_have_their_turn(clock: Clock) -> None:
    throttle = Throttle(clock)
    throttle.limit(1_000_000)
    assert throttle.slice_bytes == 100_000
    throttle.limit(1)
    assert throttle.slice_bytes == 16 * KIB
    throttle.limit(0)
    assert (throttle.slice_bytes, throttle.pause_s()) == (SLICE_BYTES_MAX, 0)
