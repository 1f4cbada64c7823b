"""What the network is like: delays, what a connection costs, and, as datagrams, what gets lost."""

import random
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Model(Enum):
    """Links as TLS has them, in order and whole or ended; or each message by itself, as a datagram has it."""

    TLS = "tls"
    DATAGRAM = "datagram"


# What one TLS 1.3 record adds to what it carries: header (5), content type (1), tag (16).
RECORD_BYTES: Final = 22
# A session on which nobody said anything for so long is asked for a sign of life. These are counted, not simulated.
KEEP_ALIVE_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """The defaults: machines of one continent, on lines of 100 Mbit/s.

    The delay between two nodes is the sum of what each has to its exchange, and jitter: mostly little, seldom much.
    """

    model: Model = Model.TLS
    delay_first_s: float = 0.001
    delay_last_s: float = 0.030
    # Up to this share of the delay is added; a fourth power, so that half of all messages see 6 % of it or less.
    jitter: float = 1.0
    seconds_per_byte: float = 8e-8
    # TCP takes one round trip, TLS with certificates on both sides one and a half; then the server's first frame goes.
    handshake_round_trips: float = 2.5
    dial_timeout_s: float = 5.0
    # A link ends when nothing was heard for 15 s; pings every 5 s have been heard 0 to 5 s before a silence begins.
    silence_first_s: float = 10.0
    silence_last_s: float = 15.0
    # Datagrams only.
    loss: float = 0.0
    duplication: float = 0.0
    # Share of messages that take up to `straggle_s` longer, and so arrive out of order.
    straggling: float = 0.0
    straggle_s: float = 0.5

    def distance(self, rng: random.Random) -> float:
        """How far one node is from its exchange."""
        return rng.uniform(self.delay_first_s, self.delay_last_s) / 2
