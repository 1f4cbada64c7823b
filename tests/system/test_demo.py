"""The demo as its user runs it: four real daemons, one liar, and nothing left at the end, whatever that was."""

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

FEW_FILES = 120
_RUN = "import sys; from meshd_node.cli.demo import demo; sys.exit(demo(sys.stdout, as_json={json}, files_max={files}))"


class Place:
    """A folder for temporary files, and what lives or lies there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.demos: list[subprocess.Popen[str]] = []
        self.environment = {**os.environ, "TMPDIR": str(folder), "MESHD_DIR": "/nowhere", "MESHD_SOCKET": "/nowhere/s"}

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        self.demos.append(
            subprocess.Popen(
                [sys.executable, *arguments],
                env=self.environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
        return self.demos[-1]

    def files(self) -> list[str]:
        return [path.name for path in self.folder.iterdir()]

    def daemons(self) -> list[str]:
        """The names of the nodes whose daemon answers programs."""
        return sorted(path.parent.name for path in self.folder.glob("meshd-demo-*/*/meshd.sock"))

    def processes(self) -> list[psutil.Process]:
        return [each for each in psutil.process_iter() if self._is_of_demo(each)]

    def daemon_of(self, name: str) -> list[psutil.Process]:
        return [each for each in self.processes() if each.environ().get("MESHD_DIR", "").endswith(f"/{name}")]

    def end(self) -> None:
        """Whatever a failed test left."""
        for demo in self.demos:
            demo.kill()
            demo.communicate()
        for process in self.processes():
            process.kill()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _is_of_demo(self, process: psutil.Process) -> bool:
        try:
            if process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD):
                return False
            below = process.environ().get("MESHD_DIR", "").startswith(str(self.folder))
            return below or any(str(self.folder) in argument for argument in process.cmdline())
        except psutil.Error:
            return False


@pytest.fixture
def place() -> Iterator[Place]:
    # Not below pytest's own folder: workers that run as another user have to enter it, and its path is long.
    folder = Path(tempfile.mkdtemp(prefix="meshd-demo-test-"))
    folder.chmod(0o755)
    here = Place(folder)
    yield here
    here.end()


def test_the_liar_is_outvoted_no_wrong_result_is_accepted_and_nothing_is_left(
    place: Place, until: Callable[..., object]
) -> None:
    demo = place.start("-c", _RUN.format(json=True, files=FEW_FILES))
    out, err = demo.communicate(timeout=50)

    assert (demo.returncode, err) == (0, "")
    found = json.loads(out)
    assert found["files"] == FEW_FILES
    assert found["recount_agrees"]
    assert found["wrong_accepted"] == 0
    assert len(found["top"]) == 20
    liar = next(node for node in found["nodes"] if node["liar"])
    assert liar["outvoted"] == found["lies_outvoted"] > 0
    assert found["lie"]["claimed"] != found["lie"]["accepted"]
    assert len(set(found["lie"]["outvoted_by"]) - {liar["name"]}) == 2
    assert sum(node["accepted"] for node in found["nodes"]) == 2 * FEW_FILES
    assert sum(node["outvoted"] for node in found["nodes"] if not node["liar"]) == 0
    assert place.files() == []
    until(lambda: not place.processes())


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_whoever_ends_the_demo_finds_nothing_left_of_it(
    place: Place, until: Callable[..., object], number: signal.Signals, code: int
) -> None:
    demo = place.start("-m", "meshd_node", "demo")
    until(lambda: len(place.daemons()) >= 2)

    demo.send_signal(number)
    out, err = demo.communicate(timeout=30)

    assert demo.returncode == code
    assert "Traceback" not in out + err
    assert place.files() == []
    until(lambda: not place.processes())


def test_daemons_end_with_a_demo_that_is_killed(place: Place, until: Callable[..., object]) -> None:
    demo = place.start("-m", "meshd_node", "demo")
    until(lambda: len(place.daemons()) == 4)

    demo.kill()
    demo.communicate(timeout=30)

    until(lambda: not place.processes())


def test_a_daemon_that_dies_is_named_and_the_rest_is_cleaned_up(place: Place, until: Callable[..., object]) -> None:
    demo = place.start("-m", "meshd_node", "demo")
    until(lambda: len(place.daemons()) == 4)
    (victim,) = place.daemon_of("alan")

    victim.kill()
    _, err = demo.communicate(timeout=30)

    assert demo.returncode == 70
    assert "meshd: the daemon of alan ended with code -9" in err
    assert place.files() == []
    until(lambda: not place.processes())


def test_what_a_daemon_said_before_it_ended_is_shown(place: Place) -> None:
    """An environment in which no daemon can start: its own line says why."""
    script = (
        "import sys; from meshd_node.demo import nodes; from meshd_node.cli.main import run\n"
        "nodes._SETTINGS['MESHD_DRAIN_S'] = 'soon'; sys.exit(run(['demo']))"
    )
    demo = place.start("-c", script)
    _, err = demo.communicate(timeout=30)

    assert demo.returncode == 70
    assert "the daemon of ada ended with code 78; it said:\nmeshd: " in err
    assert "drain_s" in err.lower()
    assert place.files() == []


def test_a_folder_for_temporary_files_with_too_long_a_path_is_refused_in_one_line(place: Place) -> None:
    deep = place.folder / ("x" * 100)
    deep.mkdir()
    place.environment["TMPDIR"] = str(deep)
    demo = place.start("-m", "meshd_node", "demo")
    _, err = demo.communicate(timeout=30)

    assert demo.returncode == 70
    assert "set TMPDIR to a shorter one" in err
    assert err.count("\n") == 1
    assert list(deep.iterdir()) == []
