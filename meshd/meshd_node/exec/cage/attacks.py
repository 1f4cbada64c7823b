"""What is done to a cage from inside, to see what it keeps: a program that loads little and nothing installed.

It says over a socket what each attack came to. Where nothing holds, everything here happens to the machine itself:
each attack is real, undone at once, and hurts nobody. An attack that raises anything but `OSError` has no report.
"""

import errno
import json
import mmap
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final, NoReturn

from meshd_node.exec.cage import attack_calls, attack_files, attack_sockets

Attack = Callable[[], str]

_BLOCK: Final = 1 << 20
_NAMESPACES: Final = ("pid", "mnt", "net", "ipc", "uts", "user", "cgroup")


class Attacker:
    """Attacks one after the other, and says over `control` what came of each."""

    def __init__(self, control: socket.socket, targets: dict[str, Any]) -> None:
        self._control = control
        self._targets = targets

    def run(self) -> None:
        """Attack everything; then wait to be killed."""
        self._say(begin=True, namespaces=_namespaces())
        self._control.recv(1)
        spinning = self._worker("cpu", _spin) if self._targets["cpu_grouped"] else None
        for name, attack in self._quick():
            self._attack(name, attack)
        self._attack("memory", self._exhaust_memory)
        if spinning is not None:
            os.waitpid(spinning, 0)
        self._attack("fork bomb", self._fork_bomb)
        # At the end, since what it allows would change what the others meet.
        self._attack("unshare", attack_calls.make_user_namespace)
        self._attack("outlive", self._leave_a_process)
        self._say(done=True)
        signal.pause()

    def _attack(self, name: str, attack: Attack) -> None:
        try:
            said = attack()
        except OSError as error:
            self._say(attack=name, reached=False, said=errno.errorcode.get(error.errno or 0, str(error)))
        else:
            self._say(attack=name, reached=True, said=said)

    def _say(self, **word: Any) -> None:
        self._control.send(json.dumps(word).encode())

    def _quick(self) -> list[tuple[str, Attack]]:
        """The attacks that take no time."""
        targets, victim = self._targets, int(self._targets["victim"])
        return [
            ("read /etc/shadow", lambda: attack_files.read("/etc/shadow")),
            ("read a private file", lambda: attack_files.read(targets["secret"])),
            *((f"write to {folder}", attack_files.writing(folder, targets["token"])) for folder in targets["folders"]),
            ("write to /proc/sys", lambda: attack_files.open_to_write("/proc/sys/kernel/core_pattern")),
            ("write outside of scratch", lambda: attack_files.open_to_write("/proc/self/comm")),
            ("see a process", lambda: attack_files.read(f"/proc/{victim}/stat")),
            ("read an environment", lambda: attack_files.read(f"/proc/{victim}/environ")),
            ("inherit an environment", lambda: _inherited(targets["environ"])),
            ("trace a process", lambda: attack_calls.trace(victim)),
            ("read a process", lambda: attack_calls.read_memory(victim)),
            ("kill a process", lambda: _kill(victim)),
            ("connect by TCP", lambda: attack_sockets.connect(socket.AF_INET, ("127.0.0.1", targets["tcp"]))),
            ("send by UDP", lambda: attack_sockets.send(targets["udp"])),
            *attack_sockets.families(),
            ("abstract unix socket", lambda: attack_sockets.connect(socket.AF_UNIX, "\0" + targets["abstract"])),
            ("unix socket of a path", lambda: attack_sockets.connect(socket.AF_UNIX, targets["path"])),
            *attack_calls.calls(),
            ("gain privileges by a program", attack_calls.gain_privileges),
            ("become root", attack_calls.become_root),
            ("change the root", attack_calls.change_root),
            ("open files", lambda: attack_files.open_files(int(targets["open_files"]))),
            ("fill scratch", lambda: attack_files.fill(int(targets["scratch_bytes"]))),
        ]

    def _worker(self, kind: str, body: Callable[[], None]) -> int:
        """Fork a worker that waits until it is in a group of its own; return once it has begun."""
        begun, begin = os.pipe()
        try:
            pid = os.fork()
        except OSError as error:
            # Not a refusal of the attack that the worker was for.
            raise RuntimeError("there is no room for a worker") from error
        if pid == 0:
            try:
                self._say(worker=kind)
                self._control.recv(1)
                os.write(begin, b"x")
                body()
            finally:
                os._exit(0)
        os.close(begin)
        os.read(begun, 1)
        os.close(begun)
        return pid

    def _exhaust_memory(self) -> str:
        """Take twice what there is: by touching it where a group counts it, as address space where a limit does."""
        size = 2 * int(self._targets["memory_bytes"])
        if not self._targets["memory_grouped"]:
            return _map(size)
        _, status = os.waitpid(self._worker("memory", lambda: _touch(size)), 0)
        if os.WIFSIGNALED(status):
            raise OSError(errno.ENOMEM, "killed")
        return f"took {size >> 20} MiB"

    def _fork_bomb(self) -> str:
        """Make twice as many processes as may be."""
        wanted = 2 * int(self._targets["pids"])
        waiting, release = os.pipe()
        made: list[int] = []
        try:
            for _ in range(wanted):
                pid = os.fork()
                if pid == 0:
                    os.close(release)
                    os.read(waiting, 1)
                    os._exit(0)
                made.append(pid)
        finally:
            os.close(release)
            os.close(waiting)
            for pid in made:
                os.waitpid(pid, 0)
        return f"made {wanted} processes"

    def _leave_a_process(self) -> str:
        """Leave a process of a session of its own, whose parent is gone; it keeps our end of the socket."""
        begun, begin = os.pipe()
        pid = os.fork()
        if pid == 0:
            try:
                os.setsid()
                if os.fork() == 0:
                    self._stay(begin)
            finally:
                os._exit(0)
        os.waitpid(pid, 0)
        os.close(begin)
        os.read(begun, 1)
        os.close(begun)
        return "left a process"

    def _stay(self, begin: int) -> NoReturn:
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, signal.SIG_IGN)
        self._say(left=True)
        os.close(begin)
        while True:
            signal.pause()


def _namespaces() -> dict[str, str]:
    """Which namespaces this process is in, as far as it can see."""
    found = {}
    for name in _NAMESPACES:
        with suppress(OSError):
            found[name] = os.readlink(f"/proc/self/ns/{name}")
    return found


def _inherited(allowed: list[str]) -> str:
    if foreign := sorted(set(os.environ) - set(allowed)):
        return f"has {foreign[0]}"
    raise OSError("nothing but what it was given")


def _kill(pid: int) -> str:
    """Whether it died is seen from outside: in a namespace the number may be another's."""
    os.kill(pid, signal.SIGKILL)
    return "sent"


def _map(size: int) -> str:
    held: list[mmap.mmap] = []
    try:
        while len(held) * _BLOCK < size:
            held.append(mmap.mmap(-1, _BLOCK))
    finally:
        for area in held:
            area.close()
    return f"mapped {size >> 20} MiB"


def _touch(size: int) -> None:
    # Nobody else: should the kernel have to choose, it is to be this process.
    with suppress(OSError), open("/proc/self/oom_score_adj", "w", encoding="ascii") as file:
        file.write("1000")
    held = []
    for _ in range(size // _BLOCK):
        held.append(bytearray(_BLOCK))


def _spin() -> None:
    """Use twice the share of a period."""
    while time.process_time() < 0.006:
        pass


def main() -> None:
    """Attack; the arguments are the socket's number and the targets, in JSON."""
    # A crash is to leave no file behind.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    control, targets = sys.argv[1:]
    with socket.socket(fileno=int(control)) as sock:
        Attacker(sock, json.loads(targets)).run()
