"""One direction of one session: what is on its way, in order."""

from collections import deque
from typing import TYPE_CHECKING, Final

from meshd_sim.parcels import Parcel

if TYPE_CHECKING:
    from meshd_sim.ports import Dial, Port

# What travels besides parcels: the acceptor's first frame, and the end of the stream.
HELLO: Final[list[Parcel]] = []
END: Final[list[Parcel]] = []


class Pipe:
    """From `source` to `target`. `up`: the source's side of the session has not ended.

    `waiting` is what was written and not flushed; `flying` what was flushed and has not arrived, the oldest first. For
    each of `flying` one arrival is planned, and each arrival delivers the oldest: nothing overtakes.
    """

    __slots__ = (
        "arrives_at", "cut", "cut_at", "delay", "dial", "flying", "held", "lost", "quiet", "source", "stalled_until",
        "target", "twin", "up", "used_at", "waiting",
    )  # fmt: skip

    def __init__(self, source: "Port", target: "Port", delay: float) -> None:
        self.source = source
        self.target = target
        self.delay = delay
        self.twin: Pipe = self  # until `pair` says which
        self.up = True
        # What the dialler's side waits for.
        self.dial: Dial | None = None
        self.used_at = 0.0
        self.waiting: list[Parcel] = []
        self.flying: deque[list[Parcel]] = deque()
        self.arrives_at = 0.0
        self.stalled_until = 0.0
        # Nothing passes at the moment; so many arrivals wait for the end of that, which began at `cut_at`.
        self.cut = False
        self.cut_at = 0.0
        self.held = 0
        # Nothing passes ever again, and nobody was told.
        self.lost = False
        # Counts the silences of this pipe, so that the time-out of one does not end another.
        self.quiet = 0


def pair(a: "Port", b: "Port", now: float) -> tuple[Pipe, Pipe]:
    """Both directions of a new session."""
    delay = a.distance + b.distance
    there, back = Pipe(a, b, delay), Pipe(b, a, delay)
    there.used_at = back.used_at = now
    there.twin, back.twin = back, there
    return there, back
