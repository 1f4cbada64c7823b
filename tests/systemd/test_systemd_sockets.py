"""Sockets that somebody else listens on: the daemon's for its programs, the warden's for its daemon."""

import os
import pwd
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from meshd_node.activation import inherited
from meshd_node.exec.control import Keep, Proved
from meshd_node.exec.employing import WardenOfService
from meshd_node.exec.warden.service import _as_seen_here, accept
from meshd_node.places import warden_path
from meshd_node.services.local.server import LocalServer
from meshd_node.services.notify import Notifier

ME = pwd.getpwuid(os.getuid()).pw_name
# Takes the place of systemd: the descriptor becomes the third, and the process is told that it is meant.
HANDED = """
import os, runpy, socket, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES=sys.argv[2])
sys.argv = sys.argv[3:]
"""
ASK = """
from meshd_node.activation import inherited
from meshd_node.errors import ConfigError
try:
    sock = inherited(os.environ, "local", socket.SOCK_STREAM)
    print("nothing" if sock is None else sock.getsockname())
    print("kept" if sock and os.get_inheritable(sock.fileno()) else "closed by exec")
except ConfigError as error:
    print(error)
"""
SERVE = "runpy.run_module('meshd_node.exec.warden.service', run_name='__main__')"


def listening(path: Path, kind: socket.SocketKind) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX, kind)
    sock.bind(str(path))
    sock.listen()
    return sock


def handing(sock: socket.socket, name: str, program: str, *arguments: str) -> list[str]:
    return [sys.executable, "-P", "-c", HANDED + program, str(sock.fileno()), name, "meshd", *arguments]


def asked(sock: socket.socket, name: str = "local") -> list[str]:
    done = subprocess.run(
        handing(sock, name, ASK), pass_fds=(sock.fileno(),), capture_output=True, text=True, check=True, timeout=30
    )
    return done.stdout.splitlines()


def test_a_socket_is_taken_by_its_name_and_not_handed_on(tmp_path: Path) -> None:
    with listening(tmp_path / "sock", socket.SOCK_STREAM) as sock:
        assert asked(sock) == [str(tmp_path / "sock"), "closed by exec"]
        assert asked(sock, "another")[0] == "nothing"


def test_a_socket_of_another_kind_is_named(tmp_path: Path) -> None:
    with listening(tmp_path / "sock", socket.SOCK_SEQPACKET) as sock:
        assert asked(sock) == [
            "systemd handed over a socket 'local' that is no listening Unix socket of the kind SOCK_STREAM"
        ]


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "local"},  # a parent's
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "many", "LISTEN_FDNAMES": "local"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "99999999999", "LISTEN_FDNAMES": "local"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "0", "LISTEN_FDNAMES": "local"},
        {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"},
    ],
)
def test_what_was_not_meant_for_this_process_is_left_alone(environ: dict[str, str]) -> None:
    assert inherited(environ, "local", socket.SOCK_STREAM) is None


async def test_a_handed_socket_is_served_and_stays_when_the_daemon_ends(tmp_path: Path) -> None:
    """systemd listens on, so that a program that comes during a restart waits instead of failing."""
    path = tmp_path / "sock"
    with listening(path, socket.SOCK_STREAM) as sock:
        server = LocalServer(tmp_path / "none", None, None, None, None, listener=sock.dup())  # type: ignore[arg-type]
        server._serve = _hang_up  # type: ignore[method-assign, assignment]
        async with trio.open_nursery() as nursery:
            await nursery.start(server.run)
            async with await trio.open_unix_socket(path) as stream:
                assert await stream.receive_some(1) == b""
            nursery.cancel_scope.cancel()

        assert path.is_socket()
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as waiting:
            waiting.connect(str(path))
    assert not (tmp_path / "none").exists()


async def _hang_up(sock: socket.socket) -> None:
    sock.close()
    await trio.lowlevel.checkpoint()


# --- the warden -------------------------------------------------------------------------------------------------------


@pytest.fixture
def warden_socket(tmp_path: Path) -> Iterator[socket.socket]:
    with listening(tmp_path / "warden.sock", socket.SOCK_SEQPACKET) as sock:
        yield sock


def test_a_warden_serves_the_daemon_that_connects_and_ends_with_it(warden_socket: socket.socket) -> None:
    daemon = WardenOfService(Path(warden_socket.getsockname()))
    process = subprocess.Popen(
        handing(warden_socket, "warden", SERVE, ME), pass_fds=(warden_socket.fileno(),), stderr=subprocess.DEVNULL
    )
    daemon.wire.send(Keep(0))
    daemon.wire.sock.settimeout(40)
    daemon.wire.sock.recv(1, socket.MSG_PEEK)
    received = daemon.wire.receive()
    daemon.dismiss()

    assert received is not None
    assert isinstance(received.word, Proved)
    assert process.wait(20) == 0


def test_a_warden_that_nobody_wants_any_more_ends(warden_socket: socket.socket, monkeypatch) -> None:
    monkeypatch.setattr("meshd_node.exec.warden.service._CONNECTED_S", 0.01)

    assert accept(warden_socket, os.getuid()) is None


def test_another_user_is_hung_up_on_whatever_let_him_connect(warden_socket: socket.socket, monkeypatch) -> None:
    monkeypatch.setattr("meshd_node.exec.warden.service._CONNECTED_S", 0.01)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as other:
        other.connect(warden_socket.getsockname())
        assert accept(warden_socket, os.getuid() + 1) is None
        assert other.recv(1) == b""


@pytest.mark.parametrize(
    ("uid", "seen"),
    [(996, 996), (0, 0), (997, 65_534), (1_000_500, 500)],
)
def test_users_are_known_by_the_numbers_that_they_have_in_this_namespace(uid: int, seen: int, tmp_path: Path) -> None:
    described = tmp_path / "uid_map"
    described.write_text("         0          0          1\n       996        996          1\n 0 1000000 65536\n")

    assert _as_seen_here(uid, described) == seen


def test_a_user_that_is_not_there_is_named(warden_socket: socket.socket) -> None:
    done = subprocess.run(
        handing(warden_socket, "warden", SERVE, "no-such-user"),
        pass_fds=(warden_socket.fileno(),),
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert done.returncode == 69
    assert "there is no user no-such-user" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_warden_that_nobody_handed_a_socket_says_so() -> None:
    done = subprocess.run(
        [sys.executable, "-P", "-m", "meshd_node.exec.warden.service", ME],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )

    assert done.returncode == 78
    assert "meshd-exec.socket" in done.stderr


def test_a_service_that_is_not_there_has_hung_up_before_it_began(tmp_path: Path) -> None:
    """The daemon asks again, later each time, as it does after a warden's death."""
    daemon = WardenOfService(tmp_path / "nobody.sock")

    with pytest.raises(OSError, match="not connected"):
        daemon.wire.send(Keep(1))
    assert daemon.dismiss() is None


def test_a_wardens_place_comes_from_the_environment_alone() -> None:
    assert warden_path({}) is None
    assert warden_path({"MESHD_WARDEN": "/run/meshd-exec/warden.sock"}) == Path("/run/meshd-exec/warden.sock")


# --- the watchdog -----------------------------------------------------------------------------------------------------


async def test_systemd_hears_three_times_in_its_patience_that_the_daemon_lives(tmp_path: Path, autojump_clock) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as receiver:
        receiver.bind(str(tmp_path / "notify"))
        receiver.setblocking(False)
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "30000000"})
        with trio.move_on_after(30):
            await notifier.beat()

        assert [receiver.recv(100) for _ in range(3)] == [b"WATCHDOG=1"] * 3


@pytest.mark.parametrize("environ", [{}, {"WATCHDOG_USEC": "soon"}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}])
async def test_nobody_is_told_where_nobody_listens(environ: dict[str, str]) -> None:
    await Notifier(environ).beat()
