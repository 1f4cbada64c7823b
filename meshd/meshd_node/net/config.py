"""What the transport may use, and how long it waits."""

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Protocol

from meshd_node.errors import ConfigError
from meshd_protocol.limits import MESSAGE_BYTES_MAX, MIB


class Clocks(Protocol):
    """The two clocks of `Seams`."""

    @property
    def monotonic(self) -> Callable[[], float]:
        """Seconds, for silences and round trips."""
        ...

    @property
    def wall(self) -> Callable[[], float]:
        """Seconds since 1970, for certificates."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class NetConfig:
    """The defaults hold for 2 to 2,000 nodes."""

    # A link costs about 100 KiB, most of it OpenSSL's.
    links_max: int = 1_024
    ping_interval_ms: int = 5_000
    silence_ms: int = 15_000
    # A link that we dialled and that carried nothing but pings for this long ends, unless somebody needs it. Between
    # neighbours of the mesh a probe passes every ten seconds.
    idle_ms: int = 60_000
    dial_timeout_ms: int = 5_000
    dials_max: int = 64
    # Dials that only find out whether a peer can be reached, because it asked: they take no place of the others.
    reaches_max: int = 16
    # TLS and the hello, for whoever connects: a stranger can hold this many places this long, the oldest go first.
    handshake_timeout_ms: int = 10_000
    half_open_max: int = 256
    # A joiner's request may have to travel to its issuer and back.
    invite_timeout_ms: int = 10_000
    invites_max: int = 16
    # How long a connection that we end may take to swallow our last words.
    linger_ms: int = 1_000
    # `Link.room` waits above the first; a link whose queue exceeds the second is ended, its peer does not read.
    queue_high_bytes: int = 4 * MIB
    queue_bytes_max: int = 4 * MESSAGE_BYTES_MAX
    # What one peer may say that is no work: each message counts one, and one for each 128 bytes of it, which is 23 us:
    # a peer that floods takes 0.4 s and then 2.4 % of a core. Membership lets no peer ask for more than 64 KiB/s, half
    # of this; 128 simulated nodes that heal a split are 82 ahead of the pace at most.
    talk_per_s: int = 1_024
    talk_burst: int = 16_384

    @property
    def talk_patience_s(self) -> float:
        """For how long in all one that says more is waited for. Not heard meanwhile, it must not end as silent."""
        return self.silence_ms * 2 / 3 / 1_000

    def __post_init__(self) -> None:
        for field in fields(self):
            if getattr(self, field.name) <= 0:
                raise ConfigError(f"net.{field.name} must be above 0")
        if self.silence_ms < 2 * self.ping_interval_ms:
            raise ConfigError("net.silence_ms must be at least twice net.ping_interval_ms, or a lost ping ends a link")
        if self.queue_high_bytes >= self.queue_bytes_max:
            raise ConfigError("net.queue_high_bytes must be below net.queue_bytes_max")
