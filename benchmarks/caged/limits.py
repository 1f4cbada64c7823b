"""From a limit to the end of all that it bounds: the last moment of a unit that is over one, and of its processes."""

import ctypes
import itertools
import os
import struct
import sys
import time
from collections.abc import Callable
from typing import Final

import cloudpickle
import psutil

from benchmarks.caged.warden import Warden, Worker, wait_until_gone
from meshd_protocol.limits import MIB

cloudpickle.register_pickle_by_value(sys.modules[__name__])
# A format, for what is shipped with functions must be picklable.
_STAMP: Final = "d"
_STAMP_BYTES: Final = struct.calcsize(_STAMP)
_PR_SET_NAME: Final = 15
_MEMORY_BYTES: Final = 256 * MIB
_names = itertools.count()


def memory(warden: Warden, tenant: bytes) -> float:
    """ms from the last MiB that a unit could take to the end of its whole cage."""
    number, worker = warden.start(tenant, memory_bytes=_MEMORY_BYTES)
    cage = {each.pid for each in _lineage(warden, worker)}
    worker.give(worker.load(_take_all))
    last = _last_stamp(worker)
    gone = wait_until_gone(cage)
    if "memory" not in warden.end_of(number):
        raise RuntimeError(f"the bound on memory did not end it: {warden.ended[number] or 'no reason'}")
    return (gone - last) * 1e3


def wall_clock(warden: Warden, tenant: bytes) -> float:
    """ms from the order to end a unit that is late to the end of its worker."""
    return _until_ended(warden, tenant, _say_so)


def processes(warden: Warden, tenant: bytes) -> float:
    """The same for a unit that has made all the processes that its cage may have."""
    return _until_ended(warden, tenant, _bomb)


def _until_ended(warden: Warden, tenant: bytes, function: Callable[[], None]) -> float:
    number, worker = warden.start(tenant)
    own = _lineage(warden, worker)[-1]
    worker.give(worker.load(function))
    worker.sock.recv(_STAMP_BYTES)
    pids = {own.pid, *(each.pid for each in own.children(recursive=True))}
    began = time.monotonic()
    warden.kill(number)
    gone = wait_until_gone(pids)
    warden.end_of(number)
    return (gone - began) * 1e3


def _lineage(warden: Warden, worker: Worker) -> list[psutil.Process]:
    """The processes from a cage's first one down to its worker, by their numbers outside of it."""
    name = f"mb-{next(_names)}"
    worker.run(worker.load(_take_name), 1, name)
    (own,) = [each for each in psutil.Process(warden.pid).children(recursive=True) if each.name() == name]
    above = [each for each in own.parents() if warden.pid in {parent.pid for parent in each.parents()}]
    return [*reversed(above), own]


def _last_stamp(worker: Worker) -> float:
    said = b""
    while received := worker.sock.recv(1 << 16):
        said = said[-_STAMP_BYTES:] + received  # stamps are written whole, and what is left ends with one
    (last,) = struct.unpack(_STAMP, said[-_STAMP_BYTES:])
    return float(last)


# --- what units do ------------------------------------------------------------------------------------------------


def _take_name(name: str) -> None:
    ctypes.CDLL(None).prctl(_PR_SET_NAME, name.encode())  # a cage's /proc is read-only


def _take_all() -> None:
    stream, taken = _own_socket(), []
    while True:
        taken.append(b"x" * MIB)
        os.write(stream, struct.pack(_STAMP, time.monotonic()))


def _say_so() -> None:
    os.write(_own_socket(), struct.pack(_STAMP, time.monotonic()))
    time.sleep(1_000)


def _bomb() -> None:
    try:
        while os.fork():
            pass
    except OSError:
        _say_so()
    time.sleep(1_000)


def _own_socket() -> int:
    for name in os.listdir("/proc/self/fd"):
        try:
            if os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                return int(name)
        except OSError:
            continue
    raise RuntimeError("a worker has a socket")
