"""What programs import: `Mesh`, a `concurrent.futures.Executor` over the mesh that this machine belongs to."""

from importlib import import_module
from typing import TYPE_CHECKING, Final

from meshd_sdk.errors import (
    CommandFailed,
    MeshClosed,
    MeshError,
    MeshLost,
    MeshRefused,
    MeshUnavailable,
    UnitFailed,
    UnitTimedOut,
)
from meshd_sdk.executor import MeshExecutor
from meshd_sdk.futures import MeshFuture
from meshd_sdk.job import Job
from meshd_sdk.mesh import Mesh
from meshd_sdk.resources import Resources

if TYPE_CHECKING:
    from meshd_protocol.programs import (
        OutOfFuel,
        OutputMissing,
        OutputTooLarge,
        ProgramFailed,
        ProgramNotFound,
        WasmTrap,
    )
    from meshd_protocol.values import RemoteError, RemoteTraceback
    from meshd_sdk.commands import CommandResult
    from meshd_sdk.disagreements import Disagreement, Vote
    from meshd_sdk.environments import RequirementsError
    from meshd_sdk.wasm import WasmModule

__all__ = [
    "CommandFailed",
    "CommandResult",
    "Disagreement",
    "Job",
    "Mesh",
    "MeshClosed",
    "MeshError",
    "MeshExecutor",
    "MeshFuture",
    "MeshLost",
    "MeshRefused",
    "MeshUnavailable",
    "OutOfFuel",
    "OutputMissing",
    "OutputTooLarge",
    "ProgramFailed",
    "ProgramNotFound",
    "RemoteError",
    "RemoteTraceback",
    "RequirementsError",
    "Resources",
    "UnitFailed",
    "UnitTimedOut",
    "Vote",
    "WasmModule",
    "WasmTrap",
]


# Loaded when they are first asked for: the codec of results alone is half of what this package costs to import.
_LATE: Final = {
    "CommandResult": "meshd_sdk.commands",
    "Disagreement": "meshd_sdk.disagreements",
    "OutOfFuel": "meshd_protocol.programs",
    "OutputMissing": "meshd_protocol.programs",
    "OutputTooLarge": "meshd_protocol.programs",
    "ProgramFailed": "meshd_protocol.programs",
    "ProgramNotFound": "meshd_protocol.programs",
    "RemoteError": "meshd_protocol.values",
    "RemoteTraceback": "meshd_protocol.values",
    "RequirementsError": "meshd_sdk.environments",
    "Vote": "meshd_sdk.disagreements",
    "WasmModule": "meshd_sdk.wasm",
    "WasmTrap": "meshd_protocol.programs",
}


def __getattr__(name: str) -> type:
    """Load what only some programs need."""
    if name not in _LATE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found: type = getattr(import_module(_LATE[name]), name)
    return found
