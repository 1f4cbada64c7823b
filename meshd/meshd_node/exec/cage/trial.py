"""One trial: a cage is made, attacked from inside, and ended; what came of each attack is written down."""

import itertools
import json
import os
import select
import signal
import socket
import struct
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from meshd_node.errors import CageError
from meshd_node.exec.cage.bait import Bait, laid
from meshd_node.exec.cage.cgroups import Cgroups, Group
from meshd_node.exec.cage.spec import CageSpec, Maker
from meshd_node.exec.cage.trial_spec import CAGE_MEMORY, PIDS, WORKER_CPU_MILLI, WORKER_MEMORY, trial_spec

# A trial takes 0.3 s. A cage that hangs (bubblewrap does, where it is refused a call that it needs) is given up.
_TRIAL_S: Final = 15.0
# Killed processes are gone in ms.
_END_S: Final = 3.0
_WORD_BYTES_MAX: Final = 16 << 10
_SAID_BYTES_MAX: Final = 300
_CREDENTIALS: Final = struct.Struct("=3i")
_SHARED: Final = ("pid", "mnt", "net", "ipc")
_counter: Final = itertools.count(1)


@dataclass(frozen=True, slots=True)
class Report:
    """What came of one attack: whether it reached what it wanted, and by which answer one saw that."""

    reached: bool
    said: str


@dataclass(frozen=True, slots=True)
class Findings:
    """All reports, by the attack's name. With a `fault` the cage was not made, or did not last."""

    reports: Mapping[str, Report] = field(default_factory=dict)
    fault: str = ""


def try_cage(maker: Maker, cgroups: Cgroups | None) -> Findings:
    """Make a cage, attack it, end it. From the main thread; takes 0.3 s, at most some 20 where something hangs."""
    with tempfile.TemporaryDirectory(prefix=f"meshd-trial-{os.getpid()}-") as name, laid(Path(name)) as bait:
        folder = Path(name)
        folder.chmod(0o711)  # for cages that run as another user: their scratch folder lies in it
        return _Trial(maker, cgroups, bait, folder).run()


class _Trial:
    def __init__(self, maker: Maker, cgroups: Cgroups | None, bait: Bait, folder: Path) -> None:
        self._maker = maker
        self._bait = bait
        self._folder = folder
        self._controllers = cgroups.controllers if cgroups else frozenset()
        self._groups: dict[str, Group] = {}
        self._group = self._make_group(cgroups)
        self._reports: dict[str, Report] = {}
        self._begun = False
        # By descriptors, which stay theirs: should the cage not end as a whole, they are ended one by one.
        self._speakers: list[int] = []
        self._deadline = time.monotonic() + _TRIAL_S
        self._control, self._theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        # The kernel says who speaks, by numbers outside of the cage.
        self._control.setsockopt(socket.SOL_SOCKET, socket.SO_PASSCRED, 1)

    def run(self) -> Findings:
        with self._control, self._theirs, open(self._folder / "stderr", "w+b") as stderr:
            spec = self._spec(stderr.fileno())
            fault = self._attack(spec)
            end = os.fstat(stderr.fileno()).st_size
            said = os.pread(stderr.fileno(), _SAID_BYTES_MAX, max(0, end - _SAID_BYTES_MAX)).decode("utf-8", "replace")
        if fault and said.strip():
            fault = f"{fault}: {said.strip().splitlines()[-1]}"
        return Findings(self._reports, fault)

    def _attack(self, spec: CageSpec) -> str:
        """Make the cage and go through with it; what went wrong, if anything did."""
        try:
            process = self._maker.start(spec)
        except (OSError, CageError) as error:
            self._clear(spec)
            return str(error)
        try:
            self._theirs.close()
            self._converse(process)
        except TimeoutError:
            return f"it did not answer in {_TRIAL_S:.0f} s"
        except EOFError:
            with suppress(subprocess.TimeoutExpired):
                process.wait(_END_S)  # it may be about to say why
            return "it ended early"
        except ValueError:
            return "something else than our attacks speaks in it"
        except OSError as error:
            return str(error)
        finally:
            self._end(process, spec)
        return ""

    # --- what it is made of -----------------------------------------------------------------------------------

    def _spec(self, stderr: int) -> CageSpec:
        held = self._controllers if self._group is not None else frozenset()
        return trial_spec(self._bait, self._folder, held, control=self._theirs.fileno(), stderr=stderr)

    def _make_group(self, cgroups: Cgroups | None) -> Group | None:
        if cgroups is None:
            return None
        with suppress(CageError):
            # Its processes, and the one or two that make it.
            return cgroups.make(f"trial-{os.getpid()}-{next(_counter)}", memory_bytes=CAGE_MEMORY, pids=PIDS + 2)
        return None

    # --- what it says -----------------------------------------------------------------------------------------

    def _converse(self, process: "subprocess.Popen[bytes]") -> None:
        while True:
            word, pid, uid = self._hear()
            match word:
                case {"left": True}:
                    self._remember(pid)
                case {"begin": True, "namespaces": dict(namespaces)}:
                    self._remember(pid)
                    self._begin(process, uid, namespaces)
                    self._control.send(b"x")
                case {"worker": str(kind)}:
                    self._bound_worker(kind, pid)
                    self._control.send(b"x")
                case {"attack": str(name), "reached": bool(reached), "said": str(said)}:
                    self._reports[name] = Report(reached, said)
                case {"done": True}:
                    return
                case _:
                    raise ValueError

    def _hear(self) -> tuple[dict[str, Any], int, int]:
        """The next word, and the process and user that said it."""
        if not _readable(self._control, self._deadline):
            raise TimeoutError
        data, rights, _, _ = self._control.recvmsg(_WORD_BYTES_MAX, socket.CMSG_SPACE(_CREDENTIALS.size))
        if not data:
            raise EOFError
        pid, uid, _ = _CREDENTIALS.unpack(rights[0][2])
        return json.loads(data), pid, uid

    def _begin(self, process: "subprocess.Popen[bytes]", uid: int, namespaces: dict[str, str]) -> None:
        self._begun = True
        self._reports["run as root"] = Report(uid == 0, f"user {uid} of this machine")
        self._reports["share a user"] = Report(uid == os.geteuid(), f"user {uid}")
        for name in _SHARED:
            shared = namespaces.get(name) in (None, os.readlink(f"/proc/self/ns/{name}"))
            self._reports[f"share the {name} namespace"] = Report(shared, "shared" if shared else "its own")
        if self._group is not None:
            with suppress(OSError):  # then it is unbounded, and the attacks reach what they want
                self._group.add(process.pid)

    def _remember(self, pid: int) -> None:
        with suppress(ProcessLookupError):
            self._speakers.append(os.pidfd_open(pid))

    def _bound_worker(self, kind: str, pid: int) -> None:
        """Give a worker a group of its own within the cage's, as a unit's worker gets."""
        if self._group is None:
            return
        with suppress(OSError, CageError):
            cpu_milli = WORKER_CPU_MILLI if kind == "cpu" else 0
            self._groups[kind] = self._group.make(kind, memory_bytes=WORKER_MEMORY, cpu_milli=cpu_milli)
            self._groups[kind].add(pid)

    # --- its end ----------------------------------------------------------------------------------------------

    def _end(self, process: "subprocess.Popen[bytes]", spec: CageSpec) -> None:
        if self._begun:
            self._note_groups()
        process.kill()
        if self._group is not None:
            self._group.kill()
        with suppress(subprocess.TimeoutExpired):
            process.wait(_END_S)
        self._clear(spec)
        if self._begun:
            self._note_end()
            self._note_bait()
        for speaker in self._speakers:
            os.close(speaker)

    def _clear(self, spec: CageSpec) -> None:
        self._maker.clear(spec)
        deadline = time.monotonic() + _END_S
        while self._group is not None and not self._group.remove() and time.monotonic() < deadline:
            time.sleep(0.002)

    def _note_groups(self) -> None:
        memory, cpu = self._groups.get("memory"), self._groups.get("cpu")
        if memory is not None and memory.oom_kills():
            self._reports["memory"] = Report(False, "killed by its cgroup, alone")
        throttled = cpu is not None and cpu.throttled() > 0
        said = "held back by its cgroup" if throttled else "nothing held it back"
        self._reports["take the whole processor"] = Report(not throttled, said)

    def _note_end(self) -> None:
        """When our socket ends, every process that came of the cage is gone: each held the other end."""
        gone = self._ends()
        self._reports["outlive"] = Report(not gone, "all of its processes are gone" if gone else "one lives on")
        if not gone:
            for speaker in self._speakers:
                with suppress(OSError):
                    signal.pidfd_send_signal(speaker, signal.SIGKILL)

    def _ends(self) -> bool:
        deadline = time.monotonic() + _END_S
        while _readable(self._control, deadline):
            try:
                if not self._control.recv(_WORD_BYTES_MAX):
                    return True
            except ConnectionError:
                return True
        return False

    def _note_bait(self) -> None:
        for name, reached in self._bait.reached().items():
            if name in self._reports:
                self._reports[name] = Report(reached, self._reports[name].said)


def _readable(sock: socket.socket, deadline: float) -> bool:
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
