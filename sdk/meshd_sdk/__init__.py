"""What programs import: `Mesh`, a `concurrent.futures.Executor` over the mesh that this machine belongs to."""

from types import ModuleType
from typing import TYPE_CHECKING

from meshd_sdk.errors import MeshClosed, MeshError, MeshLost, MeshRefused, MeshUnavailable, UnitFailed
from meshd_sdk.executor import MeshExecutor
from meshd_sdk.futures import MeshFuture
from meshd_sdk.job import Job
from meshd_sdk.mesh import Mesh
from meshd_sdk.resources import Resources

if TYPE_CHECKING:
    from meshd_protocol.values import RemoteError, RemoteTraceback
    from meshd_sdk.disagreements import Disagreement, Vote

__all__ = [
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
    "RemoteError",
    "RemoteTraceback",
    "Resources",
    "UnitFailed",
    "Vote",
]


def __getattr__(name: str) -> type:
    """Load the codec of results only when it is needed: it is half of what this package costs to import."""
    if name in {"RemoteError", "RemoteTraceback"}:
        from meshd_protocol import values  # noqa: PLC0415

        return _class_of(values, name)
    if name in {"Disagreement", "Vote"}:
        from meshd_sdk import disagreements  # noqa: PLC0415

        return _class_of(disagreements, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _class_of(module: ModuleType, name: str) -> type:
    found: type = getattr(module, name)
    return found
