"""CPython's own executor tests, as tests/sdk runs them against a fake daemon, against a mesh of real ones."""

import importlib.util
import sys
from pathlib import Path

import pytest

_SUITE = Path(__file__).parents[1] / "sdk" / "test_cpython_executor_suite.py"

pytestmark = pytest.mark.long


def _load_suite():
    """The module of tests/sdk, under a name of its own: there it is collected with another daemon."""
    spec = importlib.util.spec_from_file_location("cpython_executor_suite_on_a_mesh", _SUITE)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


suite = _load_suite()
MeshExecutorSuite = suite.MeshExecutorSuite
MeshWaitSuite = suite.MeshWaitSuite
MeshAsCompletedSuite = suite.MeshAsCompletedSuite
MeshShutdownSuite = suite.MeshShutdownSuite


@pytest.fixture(scope="session")
def _two_nodes(shared_lab):
    return shared_lab.found(0, 5)


@pytest.fixture
def mesh_socket(_two_nodes) -> Path:
    """The daemon of a node that lends nothing: all units run on the other one."""
    return _two_nodes[0].socket
