"""The systems side by side, each behind the same few calls. One that is not installed is reported as absent."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import version
from importlib.util import find_spec

from benchmarks.peers.peer import Peer, Place

Opening = Callable[[Place], AbstractContextManager[Peer]]


@dataclass(frozen=True, slots=True)
class Entry:
    """A system: how it is called, what has to be installed, where it is opened, what programs import of it."""

    key: str
    title: str
    requires: str
    opening: str
    imports: str

    @property
    def is_installed(self) -> bool:
        return find_spec(self.requires) is not None

    @property
    def version(self) -> str:
        """Its distribution's version; of what comes with Python, none."""
        return "" if self.requires == "concurrent" else version(_DISTRIBUTIONS.get(self.requires, self.requires))

    def open(self, place: Place) -> AbstractContextManager[Peer]:
        """Start it with two workers; it ends with the block."""
        module, _, name = self.opening.partition(":")
        opening: Opening = getattr(import_module(module), name)
        return opening(place)


_DISTRIBUTIONS = {"meshd_sdk": "meshd-node"}
_MESHD = "from meshd_sdk import Mesh"

ENTRIES = {
    entry.key: entry
    for entry in (
        Entry("meshd", "meshd, remote", "meshd_sdk", "benchmarks.peers.meshd_nodes:remote", _MESHD),
        Entry("meshd-local", "meshd, local", "meshd_sdk", "benchmarks.peers.meshd_nodes:local", _MESHD),
        Entry(
            "processpool",
            "ProcessPoolExecutor",
            "concurrent",
            "benchmarks.peers.pools:process_pool",
            "from concurrent.futures import ProcessPoolExecutor",
        ),
        Entry("loky", "loky", "loky", "benchmarks.peers.pools:loky_pool", "import loky"),
        Entry("ray", "Ray", "ray", "benchmarks.peers.ray_cluster:ray_cluster", "import ray"),
        Entry(
            "dask",
            "Dask distributed",
            "distributed",
            "benchmarks.peers.dask_cluster:dask_cluster",
            "from distributed import Client",
        ),
    )
}
