"""The cage of a trial: as small as attacks on its bounds allow, and all that it is to attack."""

import json
import os
import sys
from collections.abc import Set
from pathlib import Path
from typing import Final

import meshd_node
from meshd_node.exec.cage.bait import Bait
from meshd_node.exec.cage.closure import closure
from meshd_node.exec.cage.spec import CageSpec, Limits, user_of

_MIB: Final = 1 << 20
# For the cage as a whole, and for a worker in it.
CAGE_MEMORY: Final = 256 * _MIB
WORKER_MEMORY: Final = 32 * _MIB
# So little that even on a busy machine the share of a period is used up.
WORKER_CPU_MILLI: Final = 30
PIDS: Final = 24
# Where no group bounds memory. An interpreter has 30 MiB of addresses.
_ADDRESS_SPACE: Final = 256 * _MIB

# The numbers of wardens' cages count from 1: that of a trial is far from them, and not another process's.
_NUMBER_FIRST: Final = 1 << 15
_ENVIRON: Final = {"PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"}
_PLACES: Final = ("HOME", "TMPDIR", "PWD")
_BEGIN: Final = "import sys; sys.path.insert(0, {!r}); from meshd_node.exec.cage.attacks import main; main()"


def trial_spec(bait: Bait, folder: Path, held: Set[str], *, control: int, stderr: int) -> CageSpec:
    """A cage whose program attacks the bait. `held` are the controllers of the groups that it and its workers get."""
    number = _NUMBER_FIRST | os.getpid() % _NUMBER_FIRST
    limits = Limits(
        memory_bytes=0 if "memory" in held else _ADDRESS_SPACE,
        pids=PIDS,
        scratch_bytes=4 * _MIB,
        open_files=128,
        file_bytes=2 * _MIB,
    )
    targets = {
        **bait.targets(),
        "folders": _folders(folder),
        "environ": [*_ENVIRON, *_PLACES],
        "memory_grouped": "memory" in held,
        "memory_bytes": limits.memory_bytes or WORKER_MEMORY,
        "cpu_grouped": "cpu" in held,
        "pids": limits.pids,
        "open_files": limits.open_files,
        "scratch_bytes": limits.scratch_bytes,
    }
    return CageSpec(
        number=number,
        argv=(sys.executable, "-I", "-S", "-c", _BEGIN.format(_packages()), str(control), json.dumps(targets)),
        environ=_ENVIRON,
        read_only=closure(),
        limits=limits,
        scratch=folder / "scratch",
        pass_fds=(control,),
        uid=user_of(number),
        stderr=stderr,
    )


def _packages() -> str:
    """Where our own packages are found, here and inside."""
    return str(Path(__file__).resolve().parents[3])


def _folders(folder: Path) -> list[str]:
    """Where work must not write: the system, the interpreter, ourselves, and what belongs to the prover."""
    ours = Path(meshd_node.__file__).parent
    return ["/", "/etc", "/usr", "/dev", sys.prefix, sys.base_prefix, str(ours), str(folder)]
