"""What a cage of this node consists of, by what it is to serve."""

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Final, NamedTuple

from meshd_node.exec.cage.closure import closure
from meshd_node.exec.cage.spec import CageSpec, Limits, user_of
from meshd_node.exec.control import Start
from meshd_node.exec.warden.devices import gpu_devices
from meshd_protocol.limits import MIB

# Nothing of the daemon's environment reaches a cage. One thread for BLAS: a slot is one CPU.
_ENVIRON: Final[Mapping[str, str]] = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "LANG": "C.UTF-8",
    "PYTHONHASHSEED": "0",
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
}
# A worker with a pool of threads and some programs of its own needs some hundred; a fork bomb wants all there are.
PIDS: Final = 512
OPEN_FILES: Final = 1_024
# Scratch space lies in memory where a cage has a file system of its own.
SCRATCH_BYTES: Final = 1_024 * MIB


class Harness(NamedTuple):
    """What is fixed when a cage is made. A cage of one harness never serves another."""

    environment: str = ""
    gpus: tuple[str, ...] = ()
    scratch_bytes: int = SCRATCH_BYTES


def harness_of(start: Start) -> Harness:
    """The harness that a worker asks for."""
    return Harness(start.environment, tuple(sorted(start.gpus)), start.limits.scratch_bytes or SCRATCH_BYTES)


@lru_cache(maxsize=16)
def _read_only(environment: str) -> tuple[Path, ...]:
    """What an interpreter needs of the host. Finding it takes 10 ms, and it stays where it is."""
    return closure(Path(environment) if environment else None)


@dataclass(frozen=True, slots=True)
class Recipe:
    """Makes the specs of this node's cages. `scratch` is a folder that others may enter (0711)."""

    scratch: Path
    python_worker: str

    def spec(self, number: int, harness: Harness, descriptor: int, *, stderr: int) -> CageSpec:
        """Cage `number`, whose zygote hears its warden on `descriptor`."""
        zygote = ("-P", "-m", "meshd_node.exec.zygote", str(descriptor), self.python_worker, harness.environment)
        return CageSpec(
            number=number,
            argv=(sys.executable, *zygote),
            environ=_ENVIRON,
            read_only=_read_only(harness.environment),
            devices=gpu_devices(harness.gpus),
            limits=Limits(
                pids=PIDS,
                scratch_bytes=harness.scratch_bytes,
                open_files=OPEN_FILES,
                file_bytes=harness.scratch_bytes,
            ),
            scratch=self.scratch / f"cage-{number}",
            pass_fds=(descriptor,),
            uid=user_of(number),
            stderr=stderr,
        )
