"""All that is not deterministic, passed down from the composition root; the simulator passes its own."""

import os
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meshd_protocol.signing import Domain, Signed, SigningKey


class Signer(Protocol):
    """Signs with the node's key."""

    def sign(self, domain: Domain, body: bytes) -> Signed:
        """Sign `body` in `domain`."""
        ...


class KeySigner:
    """The real signer: an Ed25519 key in this process."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = SigningKey(key)

    def sign(self, domain: Domain, body: bytes) -> Signed:
        """Sign `body` in `domain`; about 20 µs."""
        return self._key.sign(domain, body)


@dataclass(frozen=True, slots=True)
class Seams:
    """Time, chance and secrets."""

    signer: Signer
    monotonic: Callable[[], float] = trio.current_time  # for every decision
    wall: Callable[[], float] = time.time  # for what is signed and expires, only
    rng: random.Random = field(default_factory=random.Random)  # for choices; secrets come from `entropy`
    entropy: Callable[[int], bytes] = os.urandom
