"""What programs import: `Mesh`, a `concurrent.futures.Executor` over the mesh that this machine belongs to."""

from typing import TYPE_CHECKING

from meshd_sdk.errors import MeshClosed, MeshError, MeshLost, MeshRefused, MeshUnavailable, UnitFailed
from meshd_sdk.executor import MeshExecutor
from meshd_sdk.futures import MeshFuture
from meshd_sdk.job import Job
from meshd_sdk.mesh import Mesh
from meshd_sdk.resources import Resources

if TYPE_CHECKING:
    from meshd_protocol.values import RemoteError, RemoteTraceback

__all__ = [
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
]


def __getattr__(name: str) -> type:
    """Load the codec of results only when it is needed: it is half of what this package costs to import."""
    if name in {"RemoteError", "RemoteTraceback"}:
        from meshd_protocol import values  # noqa: PLC0415

        found: type = getattr(values, name)
        return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
