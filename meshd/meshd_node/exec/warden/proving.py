"""Finds the best maker by attacking cages of each, in a process of its own: the warden hears the daemon meanwhile."""

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final

import msgspec

from meshd_node.exec import offspring
from meshd_node.exec.cage.cgroups import Cgroups
from meshd_node.exec.cage.proof import best, prove_in_turn
from meshd_node.exec.cage.spec import Maker
from meshd_node.exec.control import Proved
from meshd_protocol.records import CageLayer

# Attacks have bounds of their own; this one is for a prover that hangs as a whole.
PROOF_S: Final = 30.0
# The daemon is starting, too, and is waited for.
_NICE: Final = 10
_PROVED: Final = msgspec.msgpack.Decoder(Proved)
_FOUND_BYTES: Final = 64 << 10


class Prover:
    """A process that attacks cages. Its pipe can be read when it has found something, or failed to."""

    def __init__(self, candidates: Sequence[Maker], cgroups: Cgroups | None, in_child: Callable[[], None]) -> None:
        """Begin; `in_child` closes what must not be held open by another process."""
        self._pipe, writing = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            code = 1
            try:
                offspring.die_with_parent()
                with suppress(PermissionError):  # its unit may keep it from changing priorities at all
                    os.nice(_NICE)
                os.close(self._pipe)
                in_child()
                os.write(writing, msgspec.msgpack.encode(_best(candidates, cgroups)))
                code = 0
            finally:
                os._exit(code)
        os.close(writing)

    def fileno(self) -> int:
        """To wait for its end."""
        return self._pipe

    def found(self) -> Proved | None:
        """What it found; None if it failed. It ends with this."""
        with suppress(ProcessLookupError):
            if not (data := self._read()):
                os.kill(self.pid, signal.SIGKILL)
        os.close(self._pipe)
        os.waitpid(self.pid, 0)
        return _PROVED.decode(data) if data else None

    def _read(self) -> bytes:
        os.set_blocking(self._pipe, False)
        try:
            return os.read(self._pipe, _FOUND_BYTES)
        except BlockingIOError:
            return b""


def _best(candidates: Sequence[Maker], cgroups: Cgroups | None) -> Proved:
    proof = best(prove_in_turn(candidates, cgroups))
    layers = [CageLayer(layer.name, layer.active) for layer in proof.layers]
    return Proved(proof.level, layers, proof.maker)
