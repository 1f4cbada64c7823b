"""What is done to a cage from inside, to see what it keeps: a script that imports nothing of ours, run by `proof`.

It says over a socket what each attack came to. Where nothing holds, everything here happens to the machine itself:
each attack is real, undone at once, and hurts nobody. An attack that raises anything but `OSError` has no report.
"""

import ctypes
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

Attack = Callable[[], str]

_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_LIBC.syscall.restype = ctypes.c_long
_PR_GET_NO_NEW_PRIVS: Final = 39
_PTRACE_SEIZE: Final = 0x4206
_CLONE_NEWUSER: Final = 0x10000000
# (x86_64, aarch64), by the column of this machine.
_NUMBERS: Final = {
    "clone": (56, 220),
    "setns": (308, 268),
    "mount": (165, 40),
    "keyctl": (250, 219),
    "add_key": (248, 217),
    "bpf": (321, 280),
    "userfaultfd": (323, 282),
    "perf_event_open": (298, 241),
    "process_vm_readv": (310, 270),
    "io_uring_setup": (425, 425),
    "open_tree": (428, 428),
    "clone3": (435, 435),
}
_COLUMN: Final = 1 if os.uname().machine == "aarch64" else 0
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
        self._attack("unshare", _make_user_namespace)
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
            ("read /etc/shadow", lambda: _read("/etc/shadow")),
            ("read a private file", lambda: _read(targets["secret"])),
            *((f"write to {folder}", _writing(folder, targets["token"])) for folder in targets["folders"]),
            ("write to /proc/sys", lambda: _open_to_write("/proc/sys/kernel/core_pattern")),
            ("write outside of scratch", lambda: _open_to_write("/proc/self/comm")),
            ("see a process", lambda: _read(f"/proc/{victim}/stat")),
            ("read an environment", lambda: _read(f"/proc/{victim}/environ")),
            ("inherit an environment", lambda: _inherited(targets["environ"])),
            ("trace a process", lambda: _called(_LIBC.ptrace(_PTRACE_SEIZE, victim, None, None))),
            ("read a process", lambda: _read_memory(victim)),
            ("kill a process", lambda: _kill(victim)),
            ("connect by TCP", lambda: _connect(socket.AF_INET, ("127.0.0.1", targets["tcp"]))),
            ("send by UDP", lambda: _send(targets["udp"])),
            *((f"socket {name}", _opening(name, family)) for name, family in _families()),
            ("abstract unix socket", lambda: _connect(socket.AF_UNIX, "\0" + targets["abstract"])),
            ("unix socket of a path", lambda: _connect(socket.AF_UNIX, targets["path"])),
            *_calls(),
            ("gain privileges by a program", _gain_privileges),
            ("become root", _become_root),
            ("change the root", _change_root),
            ("open files", lambda: _open_files(int(targets["open_files"]))),
            ("fill scratch", lambda: _fill(int(targets["scratch_bytes"]))),
        ]

    def _worker(self, kind: str, body: Callable[[], None]) -> int:
        """Fork a worker that waits until it is in a group of its own; return once it has begun."""
        begun, begin = os.pipe()
        pid = os.fork()
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
            os.setsid()
            if os.fork() == 0:
                self._stay(begin)
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


def _read(path: str) -> str:
    with open(path, "rb") as file:
        return f"read {len(file.read(4096))} bytes"


def _open_to_write(path: str) -> str:
    """Open without writing: what lies there rules the whole machine."""
    os.close(os.open(path, os.O_WRONLY))
    return "opened"


def _writing(folder: str, token: str) -> Attack:
    def write() -> str:
        path = os.path.join(folder, f".meshd-{token}")
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        os.unlink(path)
        return "wrote"

    return write


def _inherited(allowed: list[str]) -> str:
    if foreign := sorted(set(os.environ) - set(allowed)):
        return f"has {foreign[0]}"
    raise OSError("nothing but what it was given")


def _read_memory(pid: int) -> str:
    """Look for the permission alone: with nothing to copy the kernel still asks whether one might."""
    return _called(_syscall("process_vm_readv", pid, 0, 0, 0, 0, 0))


def _kill(pid: int) -> str:
    """Whether it died is seen from outside: in a namespace the number may be another's."""
    os.kill(pid, signal.SIGKILL)
    return "sent"


def _connect(family: int, address: object) -> str:
    with socket.socket(family, socket.SOCK_STREAM) as sock:
        sock.settimeout(1)
        sock.connect(address)  # type: ignore[arg-type]  # of the family that it belongs to
        return "connected"


def _send(port: int) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", ("127.0.0.1", port))
        return "sent"


def _families() -> list[tuple[str, int]]:
    """Those that a namespace of networks does not hold, or that talk to the kernel."""
    names = ("AF_NETLINK", "AF_PACKET", "AF_VSOCK", "AF_ALG")
    return [(name, getattr(socket, name)) for name in names if hasattr(socket, name)]


def _opening(name: str, family: int) -> Attack:
    kind = socket.SOCK_SEQPACKET if name == "AF_ALG" else socket.SOCK_STREAM if name == "AF_VSOCK" else socket.SOCK_RAW

    def open_one() -> str:
        socket.socket(family, kind).close()
        return "opened"

    return open_one


def _calls() -> list[tuple[str, Attack]]:
    """Calls that no work needs and many escapes began with; in each the arguments are such that nothing happens."""
    page = ctypes.create_string_buffer(256)
    event = ctypes.create_string_buffer(bytes((1, 0, 0, 0, 112)), 256)  # a counter of software, of 112 bytes
    return [
        ("clone", _clone_user_namespace),
        ("clone3", lambda: _unfiltered(_syscall("clone3", None, 0))),
        ("setns", lambda: _unfiltered(_syscall("setns", -1, 0))),
        ("mount", lambda: _unfiltered(_syscall("mount", None, b"/nowhere", None, 0, None))),
        ("open_tree", lambda: _unfiltered(_syscall("open_tree", -1, b"/nowhere", 1))),
        ("keyctl", lambda: _unfiltered(_syscall("keyctl", 0, -3, 0))),
        ("add_key", lambda: _unfiltered(_syscall("add_key", b"user", b"meshd", page, 0, -2))),
        ("io_uring", lambda: _unfiltered(_syscall("io_uring_setup", 1, page))),
        ("bpf", lambda: _unfiltered(_syscall("bpf", 5, page, 48))),
        ("userfaultfd", lambda: _unfiltered(_syscall("userfaultfd", 1))),
        ("perf_event_open", lambda: _unfiltered(_syscall("perf_event_open", event, 0, -1, -1, 0))),
    ]


def _make_user_namespace() -> str:
    return _called(_LIBC.unshare(_CLONE_NEWUSER))


def _clone_user_namespace() -> str:
    pid = _syscall("clone", _CLONE_NEWUSER | signal.SIGCHLD, 0, 0, 0, 0)
    if pid == 0:
        os._exit(0)
    _called(pid)
    os.waitpid(pid, 0)
    return "made a user namespace"


def _gain_privileges() -> str:
    if _LIBC.prctl(_PR_GET_NO_NEW_PRIVS, 0, 0, 0, 0) == 1:
        raise OSError(errno.EPERM, "no new privileges")
    return "a setuid program would be root"


def _become_root() -> str:
    os.setresuid(0, 0, 0)
    return "done"


def _change_root() -> str:
    os.chroot("/")
    return "done"


def _open_files(allowed: int) -> str:
    held: list[int] = []
    try:
        while len(held) < 2 * allowed:
            held.append(os.dup(0))
    finally:
        for descriptor in held:
            os.close(descriptor)
    return f"opened {2 * allowed}"


def _fill(allowed: int) -> str:
    """Write twice what may be, in files of 1 MiB: a limit on each file is none on the folder."""
    folder = os.environ.get("TMPDIR", ".")
    made: list[str] = []
    try:
        for number in range(2 * allowed // _BLOCK):
            made.append(os.path.join(folder, str(number)))
            with open(made[-1], "wb") as file:
                file.write(bytes(_BLOCK))
    finally:
        for path in made:
            with suppress(OSError):
                os.unlink(path)
    return f"wrote {2 * allowed >> 20} MiB"


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


def _syscall(name: str, *arguments: object) -> int:
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result: int = _LIBC.syscall(ctypes.c_long(_NUMBERS[name][_COLUMN]), *words)
    return result


def _called(result: int) -> str:
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return "done"


def _unfiltered(result: int) -> str:
    """Refused is a call that does not come to the kernel's own code: that would find fault with its arguments."""
    code = ctypes.get_errno()
    if result < 0 and code in (errno.EPERM, errno.EACCES, errno.ENOSYS):
        raise OSError(code, os.strerror(code))
    if result > 2:
        with suppress(OSError):
            os.close(result)
    return "the kernel listened"


def main() -> None:
    """Attack; the arguments are the socket's number and the targets, in JSON."""
    # A crash is to leave no file behind.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    control, targets = sys.argv[1:]
    with socket.socket(fileno=int(control)) as sock:
        Attacker(sock, json.loads(targets)).run()


if __name__ == "__main__":
    main()
