"""Landlock by itself, on this kernel and as older ones would take it."""

import json
import os
import struct
import subprocess
import sys

import pytest

from meshd_node.exec.cage import landlock

TRY = """
import ctypes, errno, json, os, socket, sys
from meshd_node.exec.cage import landlock
readable, writable = sys.argv[1:]
port = int(os.environ["PORT"])
ctypes.CDLL(None).prctl(38, 1, 0, 0, 0)
held = landlock.restrict([readable, "/no/such/path"], [writable])
def met(deed):
    try:
        deed()
    except OSError as error:
        return errno.errorcode[error.errno]
    return "done"
print(json.dumps([held, *map(met, (
    lambda: open(readable + "/file").close(),
    lambda: open(readable + "/new", "w").close(),
    lambda: open(writable + "/new", "w").close(),
    lambda: os.rename(writable + "/new", writable + "/folder/renamed"),
    lambda: open("/etc/passwd").close(),
    lambda: os.mkdir("/tmp/landlock-test"),
    lambda: socket.create_connection(("127.0.0.1", port)).close(),
    lambda: os.kill(os.getppid(), 0),
))]))
"""


@pytest.fixture
def folders(tmp_path):
    for name in ("readable", "writable"):
        (tmp_path / name / "folder").mkdir(parents=True)
        (tmp_path / name / "file").write_text("x")
    return str(tmp_path / "readable"), str(tmp_path / "writable")


def test_files_beneath_are_left_and_all_else_is_closed(folders) -> None:
    if landlock.abi() == 0:
        pytest.skip("this kernel has no Landlock")
    held, *met = json.loads(
        subprocess.run(
            [sys.executable, "-c", TRY, *folders],
            check=True,
            capture_output=True,
            env={**os.environ, "PORT": "9"},
        ).stdout
    )

    assert held == landlock.abi()
    assert met[:6] == ["done", "EACCES", "done", "done" if held >= 2 else "EXDEV", "EACCES", "EACCES"]
    assert met[6] == ("EACCES" if held >= 4 else "ECONNREFUSED")
    assert met[7] == ("EPERM" if held >= 6 else "done")


def test_a_kernel_without_it_is_no_error(monkeypatch) -> None:
    monkeypatch.setattr(landlock, "abi", lambda: 0)

    assert landlock.restrict(["/"], []) == 0


@pytest.mark.parametrize(("version", "fields"), [(1, 1), (2, 1), (3, 1), (4, 2), (5, 2), (6, 3), (7, 3)])
def test_older_kernels_are_asked_for_what_they_know(monkeypatch, version, fields) -> None:
    """One bit that a kernel does not know, and it refuses the whole."""
    asked = []
    monkeypatch.setattr(landlock, "abi", lambda: version)

    class Kernel:
        @staticmethod
        def syscall(number: int, *arguments: object) -> int:
            asked.append((number, arguments))
            return os.open("/dev/null", os.O_RDONLY) if number == 444 else 0

    monkeypatch.setattr(landlock, "_LIBC", Kernel)
    landlock.restrict(["/usr"], ["/tmp"])

    attributes = asked[0][1][0]
    assert isinstance(attributes, bytes)
    rights = struct.unpack(f"={fields}Q", attributes)
    known = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16, 6: 16, 7: 16}[version]
    assert rights == ((1 << known) - 1, 3, 3)[:fields]
    assert [number for number, _ in asked] == [444, 445, 445, 446]
