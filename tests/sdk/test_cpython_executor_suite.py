# ruff: noqa: PT009  # as in the suite that this inherits from
"""CPython's own tests of executors, by inheritance, against a mesh: Python 3.12 and later ship them as a package.

`mesh_socket` (conftest.py) says which daemon they use. What can not apply, and why:

- `executor_type(max_workers=...)`: the mesh has as many workers as it has; the mixin makes a `Mesh` instead.
- `test_free_reference` maps to objects of a plain class, which the safe codec refuses; here to dataclasses.
- `test_cancel_futures` wants some of the units that had started to go on; the mesh does not tell which have started,
  so `shutdown(cancel_futures=True)` cancels them as well. test_sdk_executor.py tests what is promised instead.
- `test_interpreter_shutdown` and `test_hang_gh83386` read what workers print, which stays on the node that ran them;
  here the unit returns and a callback prints. `test_submit_after_interpreter_shutdown` names executors of the library.
- test_init.py: a mesh has no initializers. test_thread_pool.py, test_process_pool.py, test_deadlock.py: about the
  threads, processes, queues and pickling errors inside those two executors.
- test_future.py: about `Future` itself; run here for `MeshFuture`, which replaces how it is made. The two tests of
  callbacks that raise look for the log on standard error, where pytest's own log handler does not let it through.
"""

import importlib
import os
import subprocess
import sys
import unittest
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import meshd_sdk
from meshd_sdk import Mesh
from meshd_sdk.futures import MeshFuture

_PACKAGE = "test.test_concurrent_futures"
_WHY_NOT = "this interpreter ships no test.test_concurrent_futures package (Python 3.12 and later, with its tests)"

executor = pytest.importorskip(f"{_PACKAGE}.executor", reason=_WHY_NOT)
suite_util = importlib.import_module(f"{_PACKAGE}.util")
test_wait = importlib.import_module(f"{_PACKAGE}.test_wait")
test_as_completed = importlib.import_module(f"{_PACKAGE}.test_as_completed")
test_shutdown = importlib.import_module(f"{_PACKAGE}.test_shutdown")
test_future = importlib.import_module(f"{_PACKAGE}.test_future")


@dataclass
class Plain:
    number: int


class _NoStream:
    def cancel(self, future: MeshFuture[Any]) -> None:
        pass


def make_future(*_: object) -> MeshFuture[Any]:
    return MeshFuture(_NoStream(), None)  # type: ignore[arg-type]  # of a stream, cancelling is all it needs


class MeshMixin:
    """What ThreadPoolMixin is for threads."""

    worker_count = 5

    @pytest.fixture(autouse=True)
    def _use_socket(self, mesh_socket: Path) -> None:
        self.socket = mesh_socket

    def setUp(self) -> None:
        super().setUp()
        self.executor = Mesh(self.socket)

    def tearDown(self) -> None:
        self.executor.shutdown(wait=True)
        del self.executor
        super().tearDown()

    def run_script(self, script: str) -> subprocess.CompletedProcess[str]:
        paths = [str(Path(meshd_sdk.__file__).parents[1]), *sys.path]
        environment = {**os.environ, "MESHD_SOCKET": str(self.socket), "PYTHONPATH": os.pathsep.join(paths)}
        return subprocess.run(
            [sys.executable, "-W", "error", "-c", script], env=environment, capture_output=True, text=True, check=False
        )


class MeshExecutorSuite(MeshMixin, executor.ExecutorTest, suite_util.BaseTestCase):
    test_max_workers_negative = None

    def test_free_reference(self) -> None:
        for made in self.executor.map(Plain, range(10)):
            reference = weakref.ref(made)
            del made
            self.assertIsNone(reference())


class MeshWaitSuite(MeshMixin, test_wait.WaitTests, suite_util.BaseTestCase):
    pass


class MeshAsCompletedSuite(MeshMixin, test_as_completed.AsCompletedTests, suite_util.BaseTestCase):
    pass


class MeshShutdownSuite(MeshMixin, test_shutdown.ExecutorShutdownTest, suite_util.BaseTestCase):
    test_cancel_futures = None

    def test_interpreter_shutdown(self) -> None:
        done = self.run_script(
            "from meshd_sdk import Mesh; import time\n"
            "Mesh().submit(time.sleep, 0.5).add_done_callback(lambda _: print('apple'))"
        )
        self.assertEqual((done.stdout, done.stderr, done.returncode), ("apple\n", "", 0))

    def test_hang_gh83386(self) -> None:
        done = self.run_script(
            "from meshd_sdk import Mesh; import time\nmesh = Mesh()\n"
            "mesh.submit(time.sleep, 0.5).add_done_callback(lambda _: print('apple'))\n"
            "mesh.shutdown(wait=False)"
        )
        self.assertEqual((done.stdout, done.stderr, done.returncode), ("apple\n", "", 0))

    def test_submit_after_interpreter_shutdown(self) -> None:
        done = self.run_script(
            "import atexit\n@atexit.register\ndef run_last():\n    mesh.submit(id, None)\n"
            "from meshd_sdk import Mesh\nmesh = Mesh()\nprint(mesh.submit(abs, -42).result())"
        )
        self.assertIn("cannot schedule new futures after interpreter shutdown", done.stderr)
        self.assertEqual(done.stdout, "42\n")

    def test_hang_gh94440(self) -> None:
        mesh = Mesh(self.socket)
        mesh.submit(int).result()
        mesh.submit(int).cancel()
        mesh.shutdown(wait=True)


class MeshFutureSuite(test_future.FutureTests, suite_util.BaseTestCase):
    test_done_callback_raises = None
    test_done_callback_raises_already_succeeded = None

    @pytest.fixture(autouse=True)
    def _make_mesh_futures(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(test_future, "Future", make_future)


def test_suite_is_not_empty() -> None:
    """A renamed base class would leave nothing to run."""
    for suite in (MeshExecutorSuite, MeshWaitSuite, MeshAsCompletedSuite, MeshShutdownSuite, MeshFutureSuite):
        assert unittest.TestLoader().loadTestsFromTestCase(suite).countTestCases() > 3
