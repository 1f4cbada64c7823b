"""Environments on the disk: built once, checked, bounded, whole or not there. The installer is a script that counts."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
import trio

from meshd_node.environments.errors import EnvironmentRefused
from meshd_node.environments.store import Held
from meshd_protocol.ids import function_digest
from meshd_protocol.locks import Lock

DIGEST = b"d" * 32


def ignore(_: str) -> None:
    """Nobody listens."""


def imported(held: Held, module: str, expression: str) -> str:
    """What a process sees that has the environment first on its path."""
    code = f"import sys; sys.path.insert(0, {str(held.site)!r}); import {module}; print({expression})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=30)
    return done.stdout.strip()


def not_ended(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "XZ"
    except (FileNotFoundError, ProcessLookupError):
        return False


async def acquired(store, lock: Lock, digest: bytes = DIGEST) -> Held:
    return await store.acquire(digest, lock, ignore)


async def test_twenty_requests_at_once_build_an_environment_once(new_store, fake_uv, lock) -> None:
    """Ten daemons of a machine that share a folder, each of which is asked twice."""
    held: list[Held] = []

    async def ask(store) -> None:
        held.append(await acquired(store, lock))

    async with trio.open_nursery() as nursery:
        for store in [new_store() for _ in range(10)]:
            for _ in range(2):
                nursery.start_soon(ask, store)

    assert len(fake_uv.asked) == 1
    assert len({each.site for each in held}) == 1
    assert imported(held[0], "pack", "pack.VALUE") == "42"
    for each in held:
        each.release()


async def test_the_installer_takes_wheels_with_hashes_only_and_no_settings_of_others(new_store, fake_uv, lock) -> None:
    store = new_store(index_url="https://index.example/simple", find_links=("/srv/wheels",))
    (await acquired(store, lock)).release()

    (asked,) = fake_uv.asked
    for needed in ("--require-hashes", "--no-deps", "--only-binary :all:", "--no-config", "--no-python-downloads"):
        assert needed in asked
    assert "--default-index https://index.example/simple" in asked
    assert "--find-links /srv/wheels" in asked
    assert "--no-index" not in asked


async def test_an_offline_node_looks_nowhere_but_into_its_folders(new_store, fake_uv, lock) -> None:
    (await acquired(new_store(offline=True, find_links=("/srv/wheels",)), lock)).release()

    assert "--find-links /srv/wheels --offline --no-index" in fake_uv.asked[0]


async def test_the_installer_sees_nothing_of_the_daemons_environment_and_yields_to_everybody(
    new_store, fake_uv, lock, monkeypatch, tmp_path
) -> None:
    monkeypatch.setenv("MESHD_SECRET", "secret")
    monkeypatch.setenv("UV_INDEX_URL", "https://elsewhere.example")
    monkeypatch.setenv("HTTPS_PROXY", "http://proxy.example:3128")
    fake_uv.does(
        "target.mkdir(parents=True)\n"
        "seen = (sorted(os.environ), os.nice(0), os.umask(0), os.getpgid(0) == os.getpid())\n"
        "(target / 'seen').write_text(repr(seen))\n"
    )
    held = await acquired(new_store(), lock)

    names, nice, umask, leads = eval((held.site / "seen").read_text())
    network = {"HTTPS_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR"}
    own = {name for name in names if not name.startswith(("UV_CONCURRENT_", "TOKIO_"))}
    assert own <= {"PATH", "LANG", "LC_CTYPE", "HOME", "TMPDIR", *network}
    assert "HTTPS_PROXY" in own
    assert (nice, umask, leads) == (19, 0o022, True)
    held.release()


async def test_other_users_may_read_what_was_built_whatever_the_umask(new_store, fake_uv, lock) -> None:
    fake_uv.does(
        "os.umask(0o077)\n(target / 'bin').mkdir(parents=True)\n(target / 'bin/tool').write_text('')\n"
        "(target / 'bin/tool').chmod(0o700)\n(target / 'module.py').write_text('')\n"
    )
    held = await acquired(new_store(), lock)

    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in [held.site, *held.site.rglob("*")]}
    assert modes == {"site": 0o755, "bin": 0o755, "tool": 0o755, "module.py": 0o644}
    held.release()


@pytest.mark.parametrize(
    "harm",
    [
        lambda site: (site / "pack/__init__.py").write_text("VALUE = 43\n"),
        lambda site: (site / "pack/__init__.py").unlink(),
        lambda site: (site / "pack/more.py").write_text(""),
        lambda site: (site / "pack/link").symlink_to("/etc/passwd"),
        lambda site: (site.parent / "contents.json").write_bytes(b"{"),
        lambda site: (site.parent / "contents.json").unlink(),
    ],
)
async def test_what_was_damaged_is_built_anew(new_store, fake_uv, lock, harm) -> None:
    held = await acquired(new_store(), lock)
    held.release()
    harm(held.site)

    again = await acquired(new_store(), lock)
    assert len(fake_uv.asked) == 2
    assert imported(again, "pack", "pack.VALUE") == "42"
    assert sorted(os.listdir(again.site)) == ["pack"]
    again.release()
    (await acquired(new_store(), lock)).release()
    assert len(fake_uv.asked) == 2


async def test_a_build_that_was_cut_off_leaves_nothing_that_is_used(new_store, fake_uv, lock, tmp_path) -> None:
    fake_uv.does("target.mkdir(parents=True)\n(target / 'half.py').write_text('')\ntime.sleep(60)\n")
    with trio.move_on_after(1.0) as cut:
        await acquired(new_store(), lock)
    assert cut.cancelled_caught
    assert not [path for path in (tmp_path / "environments").iterdir() if path.is_dir()]

    fake_uv.does("(target / 'whole').mkdir(parents=True)\n(target / 'whole/it').touch()\n")
    (tmp_path / "environments" / f"{DIGEST.hex()}.new").mkdir()
    held = await acquired(new_store(), lock)
    assert os.listdir(held.site) == ["whole"]
    held.release()


async def test_a_build_ends_at_its_bound_of_time_with_all_its_processes(new_store, fake_uv, lock, tmp_path) -> None:
    fake_uv.does(
        "child = os.fork()\n"
        f"open({str(tmp_path / 'child')!r}, 'a').write(f'{{child}} ' if child else '')\n"
        "time.sleep(60)\n"
    )
    with pytest.raises(EnvironmentRefused, match="not built within 1 s"):
        await acquired(new_store(build_s=1.0), lock)

    (child,) = (tmp_path / "child").read_text().split()
    with trio.fail_after(10):
        while not_ended(int(child)):
            await trio.lowlevel.checkpoint()


async def test_a_build_ends_at_its_bound_of_size(new_store, fake_uv, lock, tmp_path) -> None:
    fake_uv.does(
        "target.mkdir(parents=True)\n"
        "for number in range(40):\n    (target / str(number)).write_bytes(bytes(100_000))\ntime.sleep(60)\n"
    )
    with pytest.raises(EnvironmentRefused, match=r"more than the 1 MiB"):
        await acquired(new_store(one_mib=1), lock)
    assert not [path for path in (tmp_path / "environments").iterdir() if path.is_dir()]


async def test_no_file_of_a_build_is_larger_than_an_environment_may_be(new_store, fake_uv, lock) -> None:
    fake_uv.does("target.mkdir(parents=True)\n(target / 'large').write_bytes(bytes(3 << 20))\n")
    with pytest.raises(EnvironmentRefused, match=r"can not be built|more than the 1 MiB"):
        await acquired(new_store(one_mib=1), lock)


async def test_a_package_with_a_link_out_of_its_folder_is_refused(new_store, fake_uv, lock) -> None:
    fake_uv.does("target.mkdir(parents=True)\n(target / 'key').symlink_to('/etc/shadow')\n")
    with pytest.raises(EnvironmentRefused, match="'key', which is no plain file"):
        await acquired(new_store(), lock)


async def test_what_the_installer_says_is_the_reason_and_what_would_do_stands_behind_it(
    new_store, fake_uv, lock
) -> None:
    fake_uv.does("print('error: no wheels\\x1b[31m for\\nthis platform', file=sys.stderr)\nsys.exit(1)\n")
    with pytest.raises(
        EnvironmentRefused, match=r"for Python 3\.\d+ on linux.*error: no wheels .31m for this platform"
    ):
        await acquired(new_store(), lock)


async def test_a_lock_for_other_platforms_only_is_refused_in_words(new_store, fake_uv, lock) -> None:
    fake_uv.does("")
    with pytest.raises(EnvironmentRefused, match="pins nothing for this platform"):
        await acquired(new_store(), lock)


async def test_what_was_used_longest_ago_is_removed_but_never_what_is_in_use(
    new_store, fake_uv, lock, tmp_path
) -> None:
    store = new_store(number_max=2)
    first, second, third = (bytes([number]) * 32 for number in range(3))
    in_use = await acquired(store, lock, first)
    (await acquired(store, lock, second)).release()
    (await acquired(store, lock, third)).release()

    there = {path.name[:2] for path in (tmp_path / "environments").iterdir() if path.is_dir()}
    assert there == {"00", "02"}
    also = await acquired(new_store(number_max=2), lock, third)
    with pytest.raises(EnvironmentRefused, match=r"2 environments .* all in use"):
        await acquired(store, lock, second)
    in_use.release()
    also.release()
    (await acquired(store, lock, second)).release()


async def test_all_together_take_no_more_than_they_may(new_store, fake_uv, lock, tmp_path) -> None:
    fake_uv.does("target.mkdir(parents=True)\n(target / 'data').write_bytes(bytes(700_000))\n")
    store = new_store(one_mib=1, total_mib=1)
    for number in range(3):
        (await acquired(store, lock, bytes([number]) * 32)).release()

    assert [path.name[:2] for path in (tmp_path / "environments").iterdir() if path.is_dir()] == ["02"]


async def test_a_node_that_keeps_none_says_so(new_store, lock) -> None:
    with pytest.raises(EnvironmentRefused, match="number_max is 0"):
        await acquired(new_store(number_max=0), lock)


def test_the_digest_of_a_lock_is_that_of_a_function(lock) -> None:
    assert len(function_digest(lock.encode())) == 32
