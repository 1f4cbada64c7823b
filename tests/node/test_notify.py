import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd_node.services.notify import Notifier


@pytest.fixture
def receiver() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(5)
        yield sock


def test_systemd_hears_of_ready_status_and_stopping(receiver: socket.socket, tmp_path: Path) -> None:
    receiver.bind(str(tmp_path / "notify"))
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    notifier.ready("3 peers")
    notifier.status("4 peers")
    notifier.stopping("draining 2 units")

    assert [receiver.recv(1000) for _ in range(3)] == [
        b"READY=1\nSTATUS=3 peers",
        b"STATUS=4 peers",
        b"STOPPING=1\nSTATUS=draining 2 units",
    ]


def test_an_abstract_socket_is_reached(receiver: socket.socket, tmp_path: Path) -> None:
    receiver.bind("\0meshd-test" + str(tmp_path))
    Notifier({"NOTIFY_SOCKET": "@meshd-test" + str(tmp_path)}).ready("up")

    assert receiver.recv(1000) == b"READY=1\nSTATUS=up"


def test_a_status_can_not_add_lines_of_its_own(receiver: socket.socket, tmp_path: Path) -> None:
    receiver.bind(str(tmp_path / "notify"))
    Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")}).status("peer said\nMAINPID=1")

    assert receiver.recv(1000) == b"STATUS=peer said MAINPID=1"


@pytest.mark.parametrize("name", ["", "/nowhere/notify", "vsock:2:1", "/" + "x" * 200, "@" + "x" * 200])
def test_without_a_listener_nothing_happens(name: str) -> None:
    Notifier({"NOTIFY_SOCKET": name}).ready("up")
    Notifier({}).stopping("down")


def test_a_listener_that_does_not_read_does_not_stop_us(receiver: socket.socket, tmp_path: Path) -> None:
    receiver.bind(str(tmp_path / "notify"))
    notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "notify")})
    for number in range(2000):
        notifier.status(str(number))

    assert receiver.recv(1000) == b"STATUS=0"
