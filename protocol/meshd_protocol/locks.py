"""Locks: which packages the units of a job need, each with its version and the digests of its files.

Spec: 16-environments.md. A lock comes from a stranger and is handed to an installer, so it holds pins and nothing
else: no option, no address, no path, no file to include.
"""

import re
from typing import Final, Self

from msgspec import Struct

from meshd_protocol.errors import MalformedMessage
from meshd_protocol.limits import LOCK_BYTES_MAX, LOCK_HASHES_MAX, LOCK_PINS_MAX

_NAME: Final = r"[a-z0-9](?:[a-z0-9-]{0,98}[a-z0-9])?"
_VERSION: Final = r"[a-z0-9][a-z0-9.+!]{0,98}"
# Names, versions and words in quotes that are compared: nothing of which an address or an option could be made.
_MARKER: Final = r"[A-Za-z0-9_.,'\"<>=!~()* +-]{1,1000}"
_PIN: Final = re.compile(rf"({_NAME})==({_VERSION})(?: ; ({_MARKER}))?", re.ASCII)
_HASH: Final = re.compile(r"--hash=sha256:([0-9a-f]{64})", re.ASCII)
_CONTINUED: Final = re.compile(r"[ \t]*\\\n[ \t]*")
_OPTION: Final = re.compile(r"(?:^|\s)-")


class Pin(Struct, frozen=True, order=True):
    """One package. `hashes` are SHA-256 of files that may be installed for it, one or more; `marker` is of PEP 508."""

    name: str
    version: str
    marker: str
    hashes: tuple[str, ...]

    def __str__(self) -> str:
        """As it stands in a file of requirements."""
        marker = f" ; {self.marker}" if self.marker else ""
        return " \\\n    ".join((f"{self.name}=={self.version}{marker}", *map("--hash=sha256:{}".format, self.hashes)))


class Lock(Struct, frozen=True):
    """Pins in the order of their names. Its encoding is a file of requirements, the same for the same pins."""

    pins: tuple[Pin, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read pins as resolvers write them, in any order, between comments; raise `ValueError` for all else."""
        joined = _CONTINUED.sub(" ", text.replace("\r\n", "\n"))
        lines = [line.strip() for line in joined.split("\n")]
        pins = sorted(_pin(line) for line in lines if line and not line.startswith("#"))
        if not pins:
            raise ValueError("a lock without any package: leave the requirements out")
        if len(pins) > LOCK_PINS_MAX:
            raise ValueError(f"{len(pins)} packages, {LOCK_PINS_MAX} are allowed")
        return cls(tuple(pins))

    @classmethod
    def decode(cls, data: bytes) -> Self:
        """Read a lock as it travels, in its only spelling; raise `MalformedMessage` for anything else."""
        if len(data) > LOCK_BYTES_MAX:
            raise MalformedMessage(f"a lock of {len(data)} bytes, {LOCK_BYTES_MAX} are allowed")
        try:
            lock = cls.parse(data.decode("ascii"))
        except ValueError as error:
            raise MalformedMessage(f"not a lock: {error}") from error
        if lock._text().encode() != data:
            raise MalformedMessage("not a lock: its pins are not in the spelling that its digest is of")
        return lock

    def encode(self) -> bytes:
        """As it travels; raise `ValueError` if it is too large."""
        data = self._text().encode()
        if len(data) > LOCK_BYTES_MAX:
            raise ValueError(f"a lock of {len(data):,} bytes, {LOCK_BYTES_MAX:,} are allowed: ask for fewer packages")
        return data

    def _text(self) -> str:
        return "".join(f"{pin}\n" for pin in self.pins)


def _pin(line: str) -> Pin:
    head, *hashes = line.split(" --hash=")
    found = _PIN.fullmatch(head.rstrip())
    if found is None or _OPTION.search(found[3] or ""):
        raise ValueError(f"{head[:100]!r} is no pin of a package with a version (name==version, perhaps ; marker)")
    digests = sorted({_digest(f"--hash={each.strip()}") for each in hashes})
    if not 1 <= len(digests) <= LOCK_HASHES_MAX:
        raise ValueError(f"{found[1]}=={found[2]} has {len(digests)} hashes, from 1 to {LOCK_HASHES_MAX} are allowed")
    return Pin(found[1], found[2], (found[3] or "").strip(), tuple(digests))


def _digest(text: str) -> str:
    found = _HASH.fullmatch(text)
    if found is None:
        raise ValueError(f"{text[:100]!r} is no SHA-256 of a file")
    return found[1]
