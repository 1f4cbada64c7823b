"""Attacks on what a unit must not reach: files, processes, sockets, the kernel. Each is refused, or finds nothing."""

import ctypes
import errno
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from meshd_node.exec.cage import attack_calls

cloudpickle.register_pickle_by_value(sys.modules[__name__])

Targets = dict[str, Any]


def nothing(why: str = "nothing there") -> OSError:
    return OSError(errno.ENOENT, why)


# --- files ------------------------------------------------------------------------------------------------------------


def read_key(t: Targets) -> str:
    return f"read {len(Path(t['key']).read_bytes())} bytes"


def read_shadow(t: Targets) -> str:
    return f"read {len(Path('/etc/shadow').read_bytes())} bytes"


def read_key_by_symlink(t: Targets) -> str:
    link = Path("link")
    link.unlink(missing_ok=True)
    link.symlink_to(t["key"])
    return f"read {len(link.read_bytes())} bytes"


def read_key_by_hard_link(t: Targets) -> str:
    Path("hard").unlink(missing_ok=True)
    os.link(t["key"], "hard")
    return f"read {len(Path('hard').read_bytes())} bytes"


def read_key_by_the_root_of_another(t: Targets) -> str:
    for pid in (t["daemon"], t["warden"], t["zygote"], 1, os.getppid()):
        with suppress(OSError):
            return f"read {len(Path(f'/proc/{pid}/root', t['key'][1:]).read_bytes())} bytes"
    raise nothing()


def read_key_by_descriptors_that_are_left(t: Targets) -> str:
    """A descriptor of any folder of the host would lead up to its root."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(OSError):
            return f"read {len(Path('/proc/self/fd', name, *['..'] * 12, t['key'][1:]).read_bytes())} bytes"
    for descriptor in range(64):
        for way in ("../" * 12 + t["key"][1:], t["key"][1:]):
            with suppress(OSError):
                os.close(os.open(way, os.O_RDONLY, dir_fd=descriptor))
                return f"opened by descriptor {descriptor}"
    raise nothing()


def move_the_key(t: Targets) -> str:
    os.rename(t["key"], "stolen")
    return "moved"


def write_node_folder(t: Targets) -> str:
    Path(t["folder"], "node.toml").open("a").close()
    return "opened to write"


def put_file_into_node_folder(t: Targets) -> str:
    Path(t["folder"], "planted").write_text("x")
    return "wrote"


def find_secret_of_neighbour(t: Targets) -> str:
    """Look wherever a scratch folder could be."""
    places = ["/scratch", "/tmp", "/var/tmp", "/dev/shm", t["scratch"], os.path.dirname(os.getcwd())]
    places += [f"/proc/{pid}/{way}" for pid in (1, t["neighbour"], t["zygote"]) for way in ("cwd", "root/scratch")]
    for place in places:
        for folder, _, names in os.walk(place):
            if f"secret-{t['token']}" in names:
                return f"found it in {folder}"
    raise nothing()


def write_to_system(t: Targets) -> str:
    for folder in ("/usr", "/usr/lib", "/usr/bin", "/etc", "/lib", "/sbin", "/", "/dev", "/proc"):
        with suppress(OSError):
            Path(folder, f"planted-{t['token']}").touch()
            return f"wrote to {folder}"
    raise nothing("read-only")


def write_to_interpreter(t: Targets) -> str:
    import meshd_node

    for folder in (*sys.path, sys.prefix, sys.base_prefix, *meshd_node.__path__):
        with suppress(OSError):
            Path(folder, f"planted{t['token']}.py").touch()
            return f"wrote to {folder}"
    raise nothing("read-only")


def open_interpreter_to_write(t: Targets) -> str:
    os.close(os.open(os.__file__, os.O_RDWR))
    return "opened"


def change_modes_of_what_is_read_only(t: Targets) -> str:
    for path in (os.__file__, sys.executable, "/usr/bin", "/bin/sh"):
        with suppress(OSError):
            os.chmod(path, os.stat(path).st_mode)
            return f"changed {path}"
    raise nothing()


def set_the_machine(t: Targets) -> str:
    """Whoever writes to one of these has the machine."""
    names = ("sys/kernel/core_pattern", "sys/kernel/modprobe", "sysrq-trigger", "sys/vm/drop_caches", "self/oom_adj")
    for path in (*(f"/proc/{name}" for name in names[:-1]), "/sys/kernel/uevent_helper", "/sys/power/state"):
        with suppress(OSError):
            os.close(os.open(path, os.O_WRONLY))
            return f"opened {path}"
    raise nothing()


def be_spared_by_the_oom_killer(t: Targets) -> str:
    Path("/proc/self/oom_score_adj").write_text("-1000")
    return "wrote"


def raise_own_bounds(t: Targets) -> str:
    for folder, _, names in os.walk("/sys/fs/cgroup"):
        for name in {"memory.max", "memory.limit_in_bytes", "pids.max", "cgroup.procs"}.intersection(names):
            with suppress(OSError):
                os.close(os.open(f"{folder}/{name}", os.O_WRONLY))
                return f"opened {folder}/{name}"
    raise nothing()


def raise_own_limits(t: Targets) -> str:
    import resource

    for limit in (resource.RLIMIT_NOFILE, resource.RLIMIT_NPROC, resource.RLIMIT_FSIZE, resource.RLIMIT_CORE):
        _, hard = resource.getrlimit(limit)
        with suppress(ValueError, OSError):
            resource.setrlimit(limit, (hard + 1, hard + 1))
            return f"raised limit {limit}"
    raise nothing("refused")


def open_devices(t: Targets) -> str:
    """What a GPU, a disk, memory or a hypervisor is reached by; none was granted."""
    names = (
        "mem",
        "kmem",
        "port",
        "kmsg",
        "kvm",
        "fuse",
        "net/tun",
        "vhost-vsock",
        "vhost-net",
        "sda",
        "vda",
        "nvme0n1",
    )
    gpus = ("nvidia0", "nvidiactl", "nvidia-uvm", "dri/card0", "dri/renderD128", "kfd", "loop-control", "userfaultfd")
    for name in (*names, *gpus):
        for mode in (os.O_RDONLY, os.O_RDWR):
            with suppress(OSError):
                os.close(os.open(f"/dev/{name}", mode | os.O_NONBLOCK))
                return f"opened /dev/{name}"
    raise nothing()


def make_devices(t: Targets) -> str:
    with suppress(OSError):
        os.unlink("memory")
    os.mknod("memory", 0o600 | stat.S_IFCHR, os.makedev(1, 1))
    return "made /dev/mem"


FILES = [
    read_key, read_shadow, read_key_by_symlink, read_key_by_hard_link, read_key_by_the_root_of_another,
    read_key_by_descriptors_that_are_left, move_the_key, write_node_folder, put_file_into_node_folder,
    find_secret_of_neighbour, write_to_system, write_to_interpreter, open_interpreter_to_write,
    change_modes_of_what_is_read_only, set_the_machine, be_spared_by_the_oom_killer, raise_own_bounds, raise_own_limits,
    open_devices, make_devices,
]  # fmt: skip


# --- processes --------------------------------------------------------------------------------------------------------

OTHERS = ("daemon", "warden", "tests", "neighbour", "zygote")


def read_environment_of_daemon(t: Targets) -> str:
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        with suppress(OSError):
            if t["token"].encode() in Path(f"/proc/{pid}/environ").read_bytes():
                return f"read it of {pid}"
    raise nothing()


def inherit_environment_of_daemon(t: Targets) -> str:
    if t["token"] in str(dict(os.environ)):
        return "it is ours"
    raise nothing()


def see_processes_of_others(t: Targets) -> str:
    """A cage has a handful; the daemon's number may by chance be one of them."""
    seen = [name for name in os.listdir("/proc") if name.isdecimal()]
    names = []
    for pid in seen:
        with suppress(OSError):
            names.append(Path(f"/proc/{pid}/cmdline").read_bytes())
    if any(b"meshd_node\0up" in name or b"meshd_node.exec.warden\0" in name for name in names):
        return f"sees {len(seen)} processes, the daemon among them"
    raise nothing()


def signal_others(t: Targets) -> str:
    """That nobody of them died is seen from outside."""
    if is_alone(t):
        raise nothing("they have no number here")
    return _first(lambda pid: os.kill(pid, 0), [t[name] for name in OTHERS])


def is_alone(t: Targets) -> bool:
    """Whether processes are numbered anew here: then the numbers that we were told mean nothing."""
    return not Path(f"/proc/{t['daemon']}").exists() or b"up" not in Path(f"/proc/{t['daemon']}/cmdline").read_bytes()


def trace_others(t: Targets) -> str:
    return _first(attack_calls.trace, [t[name] for name in OTHERS])


def trace_own_zygote(t: Targets) -> str:
    return attack_calls.trace(os.getppid())


def trace_first_process(t: Targets) -> str:
    return attack_calls.trace(1)


def read_memory_of_others(t: Targets) -> str:
    return _first(attack_calls.read_memory, [*(t[name] for name in OTHERS), os.getppid(), 1])


def open_memory_of_others(t: Targets) -> str:
    def open_it(pid: int) -> None:
        os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR))

    return _first(open_it, [*(t[name] for name in OTHERS), os.getppid(), 1])


def take_descriptors_of_others(t: Targets) -> str:
    """By pidfd_getfd: the zygote's socket to its warden would be one."""

    def take(pid: int) -> None:
        held = os.pidfd_open(pid)
        try:
            for number in range(32):
                _call(438, 438, held, number, 0)
        finally:
            os.close(held)

    return _first(take, [*(t[name] for name in OTHERS), os.getppid(), 1])


def list_descriptors_of_others(t: Targets) -> str:
    def look(pid: int) -> None:
        os.listdir(f"/proc/{pid}/fd")

    return _first(look, [*(t[name] for name in OTHERS), os.getppid(), 1])


def limit_others(t: Targets) -> str:
    import resource

    if is_alone(t):
        raise nothing("they have no number here")
    return _first(lambda pid: resource.prlimit(pid, resource.RLIMIT_NOFILE), [t[name] for name in OTHERS])


def slow_others_down(t: Targets) -> str:
    if is_alone(t):
        raise nothing("they have no number here")
    return _first(lambda pid: os.setpriority(os.PRIO_PROCESS, pid, 19), [t[name] for name in OTHERS])


def bind_others_to_one_processor(t: Targets) -> str:
    if is_alone(t):
        raise nothing("they have no number here")
    return _first(lambda pid: os.sched_setaffinity(pid, {0}), [t[name] for name in OTHERS])


def be_first(t: Targets) -> str:
    os.setpriority(os.PRIO_PROCESS, 0, -10)
    return "has a better priority"


def be_of_real_time(t: Targets) -> str:
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(50))
    return "is of real time"


def _first(deed: Callable[[int], object], pids: list[int]) -> str:
    """The first process that it can be done to."""
    for pid in pids:
        with suppress(OSError):
            deed(pid)
            return f"did it to {pid}"
    raise nothing("refused for all")


PROCESSES = [
    read_environment_of_daemon, inherit_environment_of_daemon, see_processes_of_others, signal_others, trace_others,
    trace_own_zygote, trace_first_process, read_memory_of_others, open_memory_of_others, take_descriptors_of_others,
    list_descriptors_of_others, limit_others, slow_others_down, bind_others_to_one_processor, be_first, be_of_real_time,
]  # fmt: skip


# --- sockets ----------------------------------------------------------------------------------------------------------


def connect_to_daemon_by_tcp(t: Targets) -> str:
    socket.create_connection(("127.0.0.1", t["tcp"]), 2).close()
    return "connected"


def connect_to_the_world(t: Targets) -> str:
    socket.create_connection(("1.1.1.1", 53), 2).close()
    return "connected"


def listen_by_tcp(t: Targets) -> str:
    socket.create_server(("127.0.0.1", 0)).close()
    return "listens"


def send_by_udp(t: Targets) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", ("127.0.0.1", t["udp"]))
    return "sent"


def connect_by_tcp_6(t: Targets) -> str:
    with socket.socket(socket.AF_INET6) as sock:
        sock.connect(("::1", t["tcp"]))
    return "connected"


def connect_to_daemons_local_socket(t: Targets) -> str:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(t["socket"])
    return "connected"


def connect_to_a_socket_that_is_open_to_all(t: Targets) -> str:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(t["path"])
    return "connected"


def connect_to_an_abstract_socket(t: Targets) -> str:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(t["abstract"])
    return "connected"


def open_family(number: int, kind: int, t: Targets) -> str:
    socket.socket(number, kind).close()
    return "opened"


def take_names_of_the_network(t: Targets) -> str:
    return socket.gethostbyname("example.com")


FAMILIES = {"netlink": (16, 3), "packet": (17, 3), "vsock": (40, 1), "alg": (38, 5), "bluetooth": (31, 3),
            "can": (29, 3), "raw": (2, 3), "xdp": (44, 3), "tipc": (30, 5), "rds": (21, 5), "key": (15, 3),
            "nfc": (39, 1), "qipcrtr": (42, 2), "smc": (43, 1), "mctp": (45, 2)}  # fmt: skip

SOCKETS = [
    connect_to_daemon_by_tcp, connect_to_the_world, listen_by_tcp, send_by_udp, connect_by_tcp_6,
    connect_to_daemons_local_socket, connect_to_a_socket_that_is_open_to_all, connect_to_an_abstract_socket,
    take_names_of_the_network,
]  # fmt: skip


# --- the kernel -------------------------------------------------------------------------------------------------------


def _call(x86: int, arm: int, *arguments: object) -> int:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    words = [ctypes.c_long(each) if isinstance(each, int) else each for each in arguments]
    result = int(libc.syscall(ctypes.c_long(arm if os.uname().machine == "aarch64" else x86), *words))
    if result < 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    return result


def call(x86: int, arm: int, arguments: tuple[object, ...], t: Targets) -> str:
    """Held is a call that does not come to the kernel's own code: that would find fault with the arguments."""
    try:
        _call(x86, arm, *arguments)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.EACCES, errno.ENOSYS):
            raise
        return f"the kernel listened, and said {error}"
    return "the kernel did it"


CALLS: dict[str, tuple[int, int, tuple[object, ...]]] = {
    "umount2": (166, 39, (b"/nowhere", 0)),
    "pivot_root": (155, 41, (b"/nowhere", b"/nowhere")),
    "chroot": (161, 51, (b"/nowhere",)),
    "fsopen": (430, 430, (b"none", 0)),
    "fsmount": (432, 432, (-1, 0, 0)),
    "move_mount": (429, 429, (-1, b"", -1, b"", 0)),
    "mount_setattr": (442, 442, (-1, b"", 0, None, 0)),
    "name_to_handle_at": (303, 264, (-1, b"", None, None, 0)),
    "open_by_handle_at": (304, 265, (-1, None, 0)),
    "fanotify_init": (300, 262, (0, 0)),
    "process_vm_writev": (311, 271, (0, None, 0, None, 0, 1)),
    "process_madvise": (440, 440, (-1, None, 0, 0, 0)),
    "kcmp": (312, 272, (0, 0, 9, 0, 0)),
    "move_pages": (279, 239, (0, 0, None, None, None, 99)),
    "migrate_pages": (256, 238, (0, 0, None, None)),
    "io_uring_enter": (426, 426, (-1, 0, 0, 0, None, 0)),
    "io_uring_register": (427, 427, (-1, 0, None, 0)),
    "memfd_secret": (447, 447, (99,)),
    "request_key": (249, 218, (b"user", b"none", None, 0)),
    "kexec_load": (246, 104, (0, 1 << 20, None, 0)),
    "init_module": (175, 105, (None, 0, b"")),
    "finit_module": (313, 273, (-1, b"", 0)),
    "delete_module": (176, 106, (b"none", 0)),
    "reboot": (169, 142, (0, 0, 0, None)),
    "swapon": (167, 224, (b"/nowhere", 0)),
    "quotactl": (179, 60, (-1, None, 0, None)),
    "acct": (163, 89, (b"/nowhere",)),
    "settimeofday": (164, 170, (1, 1)),
    "clock_settime": (227, 112, (99, None)),
    "sethostname": (170, 161, (None, 99)),
    "syslog": (103, 116, (99, None, 0)),
    "unknown to the filter": (999, 999, ()),
}  # fmt: skip


def use_call(name: str, t: Targets) -> str:
    """Those with a history, in full."""
    return dict(attack_calls.calls())[name]()


def make_user_namespace(t: Targets) -> str:
    return attack_calls.make_user_namespace()


def make_user_namespace_by_program(t: Targets) -> str:
    made = subprocess.run(["unshare", "-Ur", "id", "-u"], capture_output=True, text=True, check=False)
    if made.returncode == 0:
        return f"is {made.stdout}"
    raise nothing(made.stderr)


def become_root(t: Targets) -> str:
    return attack_calls.become_root()


def become_another_user(t: Targets) -> str:
    own = os.getuid()
    for uid in (1, 1000, own + 1, own - 1):
        with suppress(OSError):
            os.setresuid(uid, uid, uid)
            return f"is {uid}"
    raise nothing("refused")


def join_groups(t: Targets) -> str:
    os.setgroups([0, 4, 6, 42])
    return "is in groups of the system"


def run_setuid_programs(t: Targets) -> str:
    """Any program of the system whose owner is root and whose users become him."""
    for folder in ("/usr/bin", "/usr/sbin", "/usr/lib"):
        for name in os.listdir(folder):
            path = os.path.join(folder, name)
            with suppress(OSError):
                if os.stat(path).st_mode & stat.S_ISUID and "Uid:\t0" in _uid_of(path):
                    return f"{path} runs as root"
    if "NoNewPrivs:\t1" not in Path("/proc/self/status").read_text():
        return "a setuid program would have its effect"
    raise nothing("without effect")


def _uid_of(program: str) -> str:
    with subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as running:
        try:
            lines = Path(f"/proc/{running.pid}/status").read_text()
        finally:
            running.kill()
    return next(line for line in lines.splitlines() if line.startswith("Uid:"))[:7]


def plant_setuid_program(t: Targets) -> str:
    """What lies in scratch is never run by anybody else with our user's rights, nor by us with another's."""
    Path("sh").write_bytes(Path("/bin/sh").read_bytes())
    os.chmod("sh", 0o6755)
    before = os.getresuid()
    done = subprocess.run(["./sh", "-p", "-c", "id -u"], capture_output=True, text=True, check=False)
    if done.stdout.strip() != str(before[0]):
        return f"runs as {done.stdout}"
    raise nothing("runs as its caller")


def have_capabilities(t: Targets) -> str:
    status = dict(line.split(":\t") for line in Path("/proc/self/status").read_text().splitlines() if ":\t" in line)
    if found := [name for name in ("CapPrm", "CapEff", "CapInh", "CapAmb") if int(status[name], 16)]:
        return f"has {found}"
    raise nothing("none")


def type_into_terminal(t: Targets) -> str:
    """Keys that the operator did not press, with and without bits that the kernel does not look at."""
    for request in (0x5412, 1 << 32 | 0x5412, 0x541C):
        with suppress(OSError):
            _call(16, 29, 0, request, b"x")
            return "typed"
    with suppress(OSError):
        os.close(os.open("/dev/tty", os.O_RDWR))
        return "has a terminal"
    raise nothing("refused")


def switch_protections_off(t: Targets) -> str:
    _call(135, 92, 0x0040000)
    return "memory lies where everybody knows"


def make_shared_segments(t: Targets) -> str:
    """Memory of the system, which outlives who made it; in a namespace it ends with the cage."""
    found = Path("/proc/sysvipc/shm").read_text().splitlines()[1:]
    if found:
        return f"sees {len(found)} segments of others"
    raise nothing()


KERNEL = [
    make_user_namespace, make_user_namespace_by_program, become_root, become_another_user, join_groups,
    run_setuid_programs, plant_setuid_program, have_capabilities, type_into_terminal, switch_protections_off,
    make_shared_segments,
]  # fmt: skip

# Attacks that a lower level lets through, and the layer that is missing then.
KEPT_BY = {
    see_processes_of_others: "namespaces",
    make_shared_segments: "namespaces",
    list_descriptors_of_others: "own user",  # how many there are, not what they lead to
}


def _named(attacks: list[Callable[..., str]]) -> list[Any]:
    return [pytest.param(attack, id=attack.__name__) for attack in attacks]


@pytest.mark.parametrize("attack", _named(FILES))
def test_files_of_others_are_out_of_reach(arena, verdict, attack) -> None:
    verdict(*arena.tried(attack, arena.targets), KEPT_BY.get(attack, ""))


@pytest.mark.parametrize("attack", _named(PROCESSES))
def test_processes_of_others_are_out_of_reach(arena, verdict, attack) -> None:
    verdict(*arena.tried(attack, arena.targets), KEPT_BY.get(attack, ""))


@pytest.mark.parametrize("attack", _named(SOCKETS))
def test_nobody_is_reached_by_a_socket(arena, verdict, attack) -> None:
    verdict(*arena.tried(attack, arena.targets))


@pytest.mark.parametrize("family", FAMILIES)
def test_nobody_is_reached_by_a_socket_of_any_family(arena, verdict, family) -> None:
    verdict(*arena.tried(partial(open_family, *FAMILIES[family]), arena.targets))


@pytest.mark.parametrize("attack", _named(KERNEL))
def test_privileges_are_out_of_reach(arena, verdict, attack) -> None:
    verdict(*arena.tried(attack, arena.targets), KEPT_BY.get(attack, ""))


@pytest.mark.parametrize("name", [name for name, _ in attack_calls.calls()])
def test_the_ways_by_which_others_escaped_are_shut(arena, verdict, name) -> None:
    verdict(*arena.tried(use_call, name, arena.targets))


@pytest.mark.parametrize("name", CALLS)
def test_the_kernel_does_not_listen_to_calls_that_no_work_needs(arena, verdict, name) -> None:
    verdict(*arena.tried(partial(call, *CALLS[name]), arena.targets))
