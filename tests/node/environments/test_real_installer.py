"""The real uv, with wheels made on the spot and no network."""

import sys

import pytest
import trio

from meshd_node.environments.errors import EnvironmentRefused
from meshd_node.environments.uv import find_uv
from meshd_protocol.ids import function_digest
from meshd_protocol.locks import Lock, Pin

try:
    find_uv()
except EnvironmentRefused as error:
    pytest.skip(str(error), allow_module_level=True)


@pytest.fixture
def wheels(tmp_path, make_wheel):
    """A folder with two packages; the lock of both."""
    folder = tmp_path / "wheels"
    lines = make_wheel(folder, "alpha", "1.0", "VALUE = 'alpha'\n") + make_wheel(
        folder, "beta", "2.0", "import alpha\n"
    )
    return folder, Lock.parse(lines)


async def test_twenty_requests_at_once_build_an_environment_once(new_store, wheels, tmp_path) -> None:
    folder, lock = wheels
    asked = tmp_path / "asked-uv"
    counting = tmp_path / "counting-uv"
    counting.write_text(f'#!/bin/sh\necho build >> {asked}\nexec {find_uv()} "$@"\n')
    counting.chmod(0o755)
    held = []

    async def ask() -> None:
        store = new_store(lambda: counting, offline=True, find_links=(str(folder),))
        held.append(await store.acquire(function_digest(lock.encode()), lock, print))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)

    assert asked.read_text() == "build\n"
    assert len(held) == 20
    assert len({each.site for each in held}) == 1
    site = held[0].site
    code = f"import sys; sys.path.insert(0, {str(site)!r}); import beta; print(beta.alpha.VALUE)"
    done = await trio.run_process([sys.executable, "-c", code], capture_stdout=True)
    assert done.stdout == b"alpha\n"
    assert list((site / "__pycache__").glob("alpha.*.pyc")), "compiled: cages can not write"
    assert not (site / ".lock").exists()
    for each in held:
        each.release()


async def test_other_bytes_than_those_that_were_locked_are_not_installed(new_store, wheels) -> None:
    folder, lock = wheels
    alpha, beta = lock.pins
    forged = Lock((Pin("alpha", "1.0", "", ("0" * 64,)), beta))

    store = new_store(find_uv, offline=True, find_links=(str(folder),))
    with pytest.raises(EnvironmentRefused, match=f"(?i)hash mismatch.*{alpha.hashes[0]}"):
        await store.acquire(b"o" * 32, forged, print)


async def test_a_wheel_for_another_platform_or_python_is_refused_with_what_would_do(
    new_store, tmp_path, make_wheel
) -> None:
    folder = tmp_path / "wheels"
    lock = Lock.parse(make_wheel(folder, "gamma", "1.0", "", "cp39-cp39-win_amd64"))

    store = new_store(find_uv, offline=True, find_links=(str(folder),))
    with pytest.raises(
        EnvironmentRefused, match=r"for Python 3\.\d+ on .*gamma.*[Ww]heel.*Pin versions that have wheels"
    ):
        await store.acquire(b"g" * 32, lock, print)


async def test_nothing_is_fetched_by_a_node_that_is_offline(new_store, lock) -> None:
    with pytest.raises(EnvironmentRefused, match="can not be built"):
        await new_store(find_uv, offline=True).acquire(b"n" * 32, lock, print)


async def test_a_package_of_sources_only_is_refused_for_its_scripts_would_run(new_store, tmp_path) -> None:
    """Its setup.py would leave a trace."""
    import hashlib
    import io
    import tarfile

    ran = tmp_path / "ran"
    path = tmp_path / "wheels/delta-1.0.tar.gz"
    path.parent.mkdir()
    with tarfile.open(path, "w:gz") as archive:
        for name, text in {
            "PKG-INFO": "Metadata-Version: 2.1\nName: delta\nVersion: 1.0\n",
            "setup.py": f"open({str(ran)!r}, 'w')\nfrom setuptools import setup\nsetup(name='delta', version='1.0')\n",
        }.items():
            member = tarfile.TarInfo(f"delta-1.0/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    lock = Lock.parse(f"delta==1.0 --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}")

    store = new_store(find_uv, offline=True, find_links=(str(path.parent),))
    with pytest.raises(EnvironmentRefused, match="can not be built"):
        await store.acquire(b"s" * 32, lock, print)
    assert not ran.exists()
