"""Attacks on whoever is served next: what one submitter does to its warm worker never meets another's units."""

import atexit
import builtins
import ctypes
import gc
import os
import pickle
import random
import resource
import signal
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import cloudpickle
import pytest

from meshd_sdk import Resources

cloudpickle.register_pickle_by_value(sys.modules[__name__])


def look() -> dict[str, object]:
    """What a unit finds; the same in every worker that nobody has touched."""
    import json

    return {
        "len": builtins.len("abc"),
        "seven": int("7") + 0 == 6 + 1,
        "json": json.dumps([1]),
        "pickle": pickle.loads.__module__,
        "cloudpickle": cloudpickle.loads.__module__,
        "encode": sys.modules["meshd_protocol.values"].encode.__module__,
        "threads": {thread.name for thread in threading.enumerate()} <= {"MainThread", "meshd-watch"},
        "alarm": str(signal.getsignal(signal.SIGALRM)),
        "trace": sys.gettrace() is None and sys.getprofile() is None,
        "poison": os.environ.get("POISON"),
        "path": [entry for entry in sys.path if "scratch" in entry or "cage-" in entry],
        "umask": os.umask(0o077),
        "files": resource.getrlimit(resource.RLIMIT_NOFILE)[0] > 16,
        "planted": sorted(name for name in os.listdir() if "planted" in name),
        "callbacks": len(gc.callbacks),
        "random": random.random.__module__,
        "modules": "planted" in sys.modules,
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
    }


def patch_builtins() -> None:
    builtins.len = lambda _: 42  # type: ignore[assignment]


def patch_pickle() -> None:
    pickle.loads = cloudpickle.loads = lambda *_, **__: lambda *_, **__: "poisoned"  # type: ignore[assignment]


def patch_the_worker() -> None:
    """The encoding of every result, and the worker's own functions."""
    sys.modules["meshd_protocol.values"].encode = lambda _: b"\xa8poisoned"  # type: ignore[attr-defined]
    for module in list(sys.modules.values()):
        if (module.__name__ or "").startswith("meshd_node.exec.worker"):
            module.load_pickled = lambda _: lambda _: "poisoned"  # type: ignore[attr-defined]


def plant_modules() -> None:
    sys.modules["json"] = sys.modules["planted"] = ModuleType("json")
    sys.modules["json"].dumps = lambda _: "poisoned"  # type: ignore[attr-defined]


def plant_files() -> None:
    """Where an interpreter that starts later might look for modules."""
    sys.path.insert(0, os.getcwd())
    for folder in (".", "..", os.environ["TMPDIR"], "/tmp", "/dev/shm", "/scratch", "/var/tmp"):
        for name in ("json.py", "sitecustomize.py", "usercustomize.py", "planted.py", "planted.pth"):
            with suppress(OSError):
                Path(folder, name).write_text("def dumps(_): return 'poisoned'\n")


def leave_threads() -> None:
    def spoil() -> None:
        while True:
            builtins.len = lambda _: 42  # type: ignore[assignment]
            time.sleep(0.001)

    threading.Thread(target=spoil, daemon=True).start()


def leave_handlers() -> None:
    def fire(*_: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, fire)
    signal.setitimer(signal.ITIMER_REAL, 0.01, 0.01)
    atexit.register(time.sleep, 100)


def leave_hooks() -> None:
    gc.callbacks.append(lambda *_: None)
    sys.settrace(lambda *_: None)
    sys.setprofile(lambda *_: None)
    sys.addaudithook(lambda *_: None)


def change_the_process() -> None:
    os.environ["POISON"] = "x"
    os.umask(0)
    os.nice(5)
    resource.setrlimit(resource.RLIMIT_NOFILE, (16, 16))
    os.chdir("/")


def make_seven_eight() -> None:
    """Small numbers are shared by all of an interpreter, and their memory by all forks of a zygote until written to."""
    ctypes.memmove(id(7) + 24, id(8) + 24, 4)


def seed_chance() -> None:
    random.seed(1)
    random.random = lambda: 0.5  # type: ignore[method-assign]


POISONS = [
    patch_builtins, patch_pickle, patch_the_worker, plant_modules, plant_files, leave_threads, leave_handlers,
    leave_hooks, change_the_process, make_seven_eight, seed_chance,
]  # fmt: skip


@pytest.mark.parametrize("poison", POISONS, ids=lambda poison: poison.__name__)
def test_what_one_submitter_does_to_its_worker_meets_no_other(arena, verdict, poison) -> None:
    """Neither in the neighbour's warm worker nor in one that is made after; then the attacker's own is made anew."""
    untouched = arena.neighbour.submit(look).result(20)
    with suppress(Exception):  # whatever a poisoned worker says of it
        arena.attack(poison, timeout=2).result(20)
    warm = arena.neighbour.submit(look).result(20)
    with arena.neighbour.options(resources=Resources(memory="200MiB")) as anew:
        made_after = anew.submit(look).result(20)
    arena.attack(os._exit, 1).exception(20)

    verdict(untouched == warm == made_after, {key: warm[key] for key in warm if warm[key] != untouched[key]})
    assert untouched["len"] == 3
    assert untouched["seven"] is True
    assert untouched["json"] == "[1]"
    assert untouched["threads"] is True
