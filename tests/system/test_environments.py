"""Whole daemons, the real installer, and wheels made on the spot: units import what their job asks for. No network."""

import hashlib
import os
import re
import zipfile
from pathlib import Path

import pytest

from meshd_sdk import RequirementsError

pytest.importorskip("uv", reason="pip install uv: it comes with meshd-node")


def make_wheel(folder: Path, version: str, tag: str = "py3-none-any", name: str = "meshpack") -> None:
    """A package with one module that knows its version. What it installs besides must not run."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": f"VERSION = {version!r}\n",
        f"{name}.pth": "import os; os.environ['MESHPACK_RAN'] = '1'\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in files)
    with zipfile.ZipFile(folder / f"{name}-{version}-{tag}.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch) -> Path:
    """A folder that the submitter and the nodes look into, and nowhere else."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for version in ("1.0", "2.0"):
        make_wheel(folder, version)
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    monkeypatch.setenv("UV_NO_INDEX", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return folder


@pytest.fixture
def mesh_of(lab, wheels):
    """Makes a running mesh whose nodes install from the folder."""

    def make(*slots: int, **settings: str):
        settings = {"MESHD_ENVIRONMENTS_FIND_LINKS": str(wheels), "MESHD_ENVIRONMENTS_OFFLINE": "true", **settings}
        return lab.found(*slots, **settings)

    return make


def version() -> tuple[str, bool]:
    import meshpack

    return meshpack.VERSION, "MESHPACK_RAN" in os.environ


def place() -> str:
    import meshpack

    return str(meshpack.__file__)


def built(node) -> list[str]:
    """The environments that a node built, one for each time it did."""
    return re.findall(r"environment_built +environment=(\w+)", node.log.read_text())


def test_units_import_what_their_job_asks_for_and_each_node_builds_it_once(mesh_of, tmp_path) -> None:
    nodes = mesh_of(0, 2, 2)
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("# what it takes\nmeshpack==2.0\n")

    with nodes[0].mesh() as mesh:
        packed = mesh.options(requirements=requirements)
        assert list(packed.map(lambda _: version(), range(40))) == [("2.0", False)] * 40
        older = mesh.options(requirements=["meshpack<2"])
        assert older.submit(version).result(30) == ("1.0", False)
        with pytest.raises(ModuleNotFoundError, match="meshpack"):
            mesh.submit(version).result(30)

    assert not built(nodes[0])
    for node in nodes[1:]:
        assert len(built(node)) == len(set(built(node)))


def test_a_caged_unit_imports_from_the_nodes_folder_and_can_not_write_there(mesh_of, until) -> None:
    (node,) = mesh_of(1, MESHD_CAGE_OFF="false")
    until(lambda: "not known" not in str(node.status()["isolation"]))

    def harm() -> str:
        import meshpack

        try:
            Path(meshpack.__file__).write_text("VERSION = 'another'")
        except OSError as error:
            return type(error).__name__
        return "written"

    with node.mesh() as mesh:
        packed = mesh.options(requirements=["meshpack"])
        assert packed.submit(place).result(30).startswith(str(node.folder / "environments"))
        if "not caged" not in str(node.status()["isolation"]):
            assert packed.submit(harm).result(30) != "written"
        assert packed.submit(version).result(30) == ("2.0", False)
        (shown,) = node.status()["environments"]
        assert (shown["packages"], shown["state"]) == (1, "ready")
        assert "packages" in node.cli("status").stdout


def test_a_package_that_the_node_itself_uses_is_the_jobs_own_for_its_units(mesh_of, wheels) -> None:
    """The worker has loaded its own before; it goes on with that."""
    make_wheel(wheels, "99.0", name="typing_extensions")
    make_wheel(wheels, "99.0", name="msgspec")
    (node,) = mesh_of(1)

    def versions() -> list[str]:
        import msgspec
        import typing_extensions

        return [msgspec.VERSION, typing_extensions.VERSION]

    with node.mesh() as mesh:
        packed = mesh.options(requirements=["typing-extensions==99.0", "msgspec==99.0"])
        assert packed.submit(versions).result(30) == ["99.0", "99.0"]
        assert packed.submit(pow, 2, 10).result(30) == 1024


def test_what_a_node_has_no_wheel_for_is_refused_before_it_runs_and_why_says_what_would_do(
    mesh_of, wheels, until
) -> None:
    make_wheel(wheels, "3.0", "cp311-cp311-win_amd64")
    (node,) = mesh_of(1)
    with node.mesh() as mesh:
        job = mesh.options(requirements=["meshpack==3.0"]).job(len, ["abc"])
        reason = until(lambda: [line for line in node.why(job.id, 0) if "wheels" in line])
        assert "can not be built for Python 3." in reason[0]
        job.cancel()


def test_a_lock_is_made_once_and_what_can_not_be_locked_is_said_at_once(mesh_of, wheels, tmp_path, lab) -> None:
    with lab.node("nobody").mesh() as mesh:
        first = mesh.options(requirements=["meshpack"])._options
        (wheels / "meshpack-2.0-py3-none-any.whl").rename(tmp_path / "away.whl")
        assert mesh.options(requirements=["meshpack"])._options == first
        assert mesh.options(requirements=["meshpack "])._options != first
        assert hashlib.sha256((tmp_path / "away.whl").read_bytes()).hexdigest() in first.lock.decode()

        with pytest.raises(RequirementsError, match="can not be locked"):
            mesh.options(requirements=["nosuchpackage==1.0"])
        with pytest.raises(ValueError, match="requirements are a file"):
            mesh.options(requirements=["--index-url https://example.org"])
        with pytest.raises(RequirementsError, match="wheels"):
            mesh.options(requirements=[f"meshpack @ file://{wheels}/meshpack-1.0-py3-none-any.whl"])
        with pytest.raises(ValueError, match="for Python functions"):
            mesh.options(requirements=["meshpack"]).command(["true"])
        assert mesh.options(requirements=[])._options.lock == b""
