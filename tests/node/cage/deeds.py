"""What work tries in a cage. Runs inside, with nothing but the standard library; prints one JSON object of outcomes.

An outcome is what a deed returned, or the name of the error that it met. Each deed has a process of its own.
"""

import contextlib
import ctypes
import errno
import json
import os
import resource
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

TARGETS = json.loads(os.environ["TARGETS"])
LIBC = ctypes.CDLL(None, use_errno=True)
X86 = os.uname().machine == "x86_64"
NEW_USER = 0x10000000


def syscall(x86: int, arm: int, *arguments: object) -> str:
    result = LIBC.syscall(ctypes.c_long(x86 if X86 else arm), *arguments)
    return "done" if result >= 0 else errno.errorcode[ctypes.get_errno()]


# --- ways out ---------------------------------------------------------------------------------------------------------


def read_secret() -> str:
    return Path(TARGETS["secret"]).read_text()


def read_environment_of_warden() -> str:
    return Path(f"/proc/{TARGETS['warden']}/environ").read_bytes().decode(errors="replace")


def kill_warden() -> str:
    os.kill(TARGETS["warden"], 0)
    return "done"


def trace_warden() -> str:
    return syscall(101, 117, 16, TARGETS["warden"], None, None)


def connect_tcp() -> str:
    socket.create_connection(("127.0.0.1", TARGETS["port"]), 2).close()
    return "done"


def connect_by_path() -> str:
    socket.socket(socket.AF_UNIX).connect(TARGETS["socket"])
    return "done"


def connect_by_abstract_name() -> str:
    socket.socket(socket.AF_UNIX).connect("\0" + TARGETS["abstract"])
    return "done"


def make_vsock() -> str:
    socket.socket(40, socket.SOCK_STREAM)
    return "done"


def make_netlink() -> str:
    socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)
    return "done"


def write_to_system() -> str:
    Path("/usr/written").write_text("x")
    return "done"


def write_to_interpreter() -> str:
    Path(sys.prefix, "written").write_text("x")
    return "done"


def write_to_temporary() -> str:
    Path("/tmp/written-by-a-cage").write_text("x")
    return "done"


def write_to_settings() -> str:
    Path("/proc/sys/kernel/core_pattern").write_text("x")
    return "done"


def list_root() -> list[str]:
    return sorted(os.listdir("/"))


def list_processes() -> int:
    return sum(name.isdecimal() for name in os.listdir("/proc"))


def open_key_to_all() -> str:
    os.chmod(TARGETS["key"], 0o644)
    return "done"


def take_key_from_warden() -> str:
    return syscall(452, 452, -100, TARGETS["key"].encode(), 0, 0)


def limit_warden() -> str:
    resource.prlimit(TARGETS["warden"], resource.RLIMIT_CPU, (1, 1))
    return "done"


def slow_warden_down() -> str:
    os.setpriority(os.PRIO_PROCESS, TARGETS["warden"], 19)
    return "done"


def become_root() -> str:
    os.setuid(0)
    return "done"


def make_user_namespace() -> str:
    return syscall(272, 97, ctypes.c_int(NEW_USER))


def clone_into_user_namespace() -> str:
    return syscall(56, 220, ctypes.c_ulong(NEW_USER | signal.SIGCHLD), None, None, None, None)


def clone_by_structure() -> str:
    return syscall(435, 435, None, 0)


def mount() -> str:
    return syscall(165, 40, b"none", b"/scratch", b"tmpfs", 0, None)


def load_bpf() -> str:
    return syscall(321, 280, 0, None, 0)


def read_keys() -> str:
    return syscall(250, 219, 0, -4, 0)


def make_ring() -> str:
    return syscall(425, 425, 1, None)


def catch_faults() -> str:
    return syscall(323, 282, 1)


def count_performance() -> str:
    return syscall(298, 241, None, 0, -1, -1, 0)


def type_into_terminal() -> str:
    return syscall(16, 29, 0, ctypes.c_ulong(0x5412), b"x")


def type_into_terminal_with_high_bits() -> str:
    return syscall(16, 29, 0, ctypes.c_ulong(1 << 32 | 0x5412), b"x")


def call_unknown() -> str:
    return syscall(1_000, 1_000)


def make_shared_segment() -> str:
    return syscall(29, 194, 0, 4_096, 0o600)


def make_device() -> str:
    os.mknod(f"{os.environ['TMPDIR']}/memory", 0o600 | 0o020000, os.makedev(1, 1))
    return "done"


# --- limits -----------------------------------------------------------------------------------------------------------


def fork_many() -> int:
    children = []
    try:
        while len(children) < 400:
            pid = os.fork()
            if pid == 0:
                signal.pause()
            children.append(pid)
    except OSError:
        pass
    for pid in children:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
    return len(children)


def write_much() -> int:
    """Files below the limit for each, until nothing more fits."""
    written = 0
    try:
        for number in range(64):
            Path(os.environ["TMPDIR"], str(number)).write_bytes(b"x" * (1 << 20))
            written += 1 << 20
    except OSError:
        pass
    for number in range(64):
        Path(os.environ["TMPDIR"], str(number)).unlink(missing_ok=True)
    return written


def write_one_large_file() -> int:
    path = Path(os.environ["TMPDIR"], "large")
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        path.write_bytes(b"x" * (8 << 20))
    size = path.stat().st_size
    path.unlink()
    return size


def open_many() -> int:
    files = []
    try:
        while len(files) < 10_000:
            files.append(os.open("/dev/null", os.O_RDONLY))
    except OSError:
        pass
    return len(files)


def allocate() -> str:
    try:
        return str(len(bytearray(1 << 31)) > 0)
    except MemoryError:
        return "MemoryError"


# --- what is there ----------------------------------------------------------------------------------------------------


def status() -> dict[str, str]:
    lines = Path("/proc/self/status").read_text().splitlines()
    return {key: value.strip() for key, value in (line.split(":", 1) for line in lines)}


def environment() -> list[str]:
    return sorted(os.environ)


def descriptors() -> list[int]:
    return [number for number in range(64) if os.path.exists(f"/proc/self/fd/{number}")]


def first_pid() -> int:
    return os.getppid()  # deeds are children of the cage's program


def host_name() -> str:
    return socket.gethostname()


def run_programs() -> str:
    return subprocess.run(["/bin/sh", "-c", "echo $((6 * 7)) | cat"], check=True, capture_output=True).stdout.decode()


def run_threads() -> int:
    heard: list[int] = []
    threads = [threading.Thread(target=heard.append, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(heard)


def write_scratch() -> str:
    path = Path(os.environ["TMPDIR"], "folder")
    path.mkdir()
    (path / "file").write_text("kept")
    return (path / "file").rename(path / "renamed").read_text()


def pair_sockets() -> str:
    ours, theirs = socket.socketpair()
    ours.send(b"heard")
    return theirs.recv(10).decode()


def work_in() -> str:
    return os.getcwd()


# --- running ----------------------------------------------------------------------------------------------------------


def outcome(deed: object) -> object:
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reading)
        try:
            said = deed()  # type: ignore[operator]
        except OSError as error:
            said = errno.errorcode.get(error.errno or 0, str(error))
        os.write(writing, json.dumps(said).encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as text:
        said = text.read()
    _, ended = os.waitpid(pid, 0)
    return json.loads(said) if said else f"killed by {signal.Signals(os.WTERMSIG(ended)).name}"


def main() -> None:
    deeds = {name: thing for name, thing in list(globals().items()) if name in TARGETS["deeds"]}
    with open(TARGETS["answer"], "w") as answer:
        json.dump({name: outcome(deed) for name, deed in deeds.items()}, answer)


main()
