"""Runs the attacks in every way that this machine has, and prints the table of SECURITY.md. A program, not a test.

As root, as an ordinary user, with and without bubblewrap, and where no namespace can be made, as in most containers.
As root it does all; anybody else sees the rows of an ordinary user. `--user-python` is an interpreter with meshd that
ordinary users may run, where root's own lies in root's home.
"""

import argparse
import ctypes
import os
import platform
import struct
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).resolve().parent
ORDINARY = 64_000
BUBBLEWRAP = "/usr/bin/bwrap"
LIBC = ctypes.CDLL(None, use_errno=True)
NEW_MOUNTS, PRIVATE, BIND = 0x00020000, 1 << 18 | 16_384, 4_096
NEW_NAMESPACES = 0x7E020000
# (x86_64, aarch64)
UNSHARE, CLONE, CLONE3 = (272, 97), (56, 220), (435, 435)


@dataclass(frozen=True)
class Way:
    """Who runs the daemons, and what there is to make cages from."""

    ordinary: bool
    bubblewrap: bool = True
    namespaces: bool = True

    def __str__(self) -> str:
        tools = "no namespaces" if not self.namespaces else "bubblewrap" if self.bubblewrap else "no bubblewrap"
        return f"{'user' if self.ordinary else 'root'}, {tools}"

    def prepare(self) -> None:
        """Become it, in the process that is to be pytest."""
        if not self.bubblewrap and os.path.exists(BUBBLEWRAP):
            hide(BUBBLEWRAP)
        if self.ordinary and os.geteuid() == 0:
            os.setgroups([])
            os.setresgid(ORDINARY, ORDINARY, ORDINARY)
            os.setresuid(ORDINARY, ORDINARY, ORDINARY)
        if not self.namespaces:
            forbid_namespaces()


def hide(program: str) -> None:
    """Cover it with something that can not be run, for this process and its children."""
    for done in (
        LIBC.unshare(NEW_MOUNTS),
        LIBC.mount(b"none", b"/", None, PRIVATE, None),
        LIBC.mount(b"/dev/null", program.encode(), None, BIND, None),
    ):
        if done:
            raise OSError(ctypes.get_errno(), f"{program} can not be hidden")


def forbid_namespaces() -> None:
    """As container engines do: a filter that refuses `unshare`, and `clone` with the flags for namespaces."""
    column = platform.machine() == "aarch64"
    load, equal, any_of, leave = 0x20, 0x15, 0x45, 0x06
    refuse, allow = (leave, 0, 0, 0x00050001), (leave, 0, 0, 0x7FFF0000)
    rules = [
        (load, 0, 0, 0),
        (equal, 0, 1, UNSHARE[column]),
        refuse,
        (equal, 0, 1, CLONE3[column]),
        (leave, 0, 0, 0x00050026),
        (equal, 0, 3, CLONE[column]),
        (load, 0, 0, 16),
        (any_of, 0, 1, NEW_NAMESPACES),
        refuse,
        allow,
    ]
    code = ctypes.create_string_buffer(b"".join(struct.pack("=HBBI", *rule) for rule in rules))
    program = struct.pack("HxxxxxxP", len(rules), ctypes.addressof(code))
    if LIBC.prctl(38, 1, 0, 0, 0) or LIBC.prctl(22, 2, program, 0, 0):
        raise OSError(ctypes.get_errno(), "namespaces can not be forbidden")


@dataclass
class Run:
    """What came of the attacks in one way."""

    way: Way
    level: str = ""
    tried: int = 0
    held: int = 0
    faults: list[str] = field(default_factory=list)
    through: tuple[str, ...] = ()
    fault: str = ""


def run(way: Way, python: str, pytest_arguments: list[str]) -> Run:
    with tempfile.TemporaryDirectory(prefix="meshd-attacks-") as folder:
        os.chmod(folder, 0o777)
        report = Path(folder, "report.xml")
        done = subprocess.run(
            [python, "-m", "pytest", str(HERE), "-q", "-m", "", "-p", "no:cacheprovider", "--basetemp", f"{folder}/run",
             f"--junitxml={report}", "-o", "junit_family=xunit1", *pytest_arguments],
            preexec_fn=way.prepare, capture_output=True, text=True, check=False, cwd=HERE.parents[2],
            env={**os.environ, "HOME": folder, "PYTHONDONTWRITEBYTECODE": "1"},
        )  # fmt: skip
        if not report.exists():
            return Run(way, fault=(done.stderr or done.stdout).strip().rpartition("\n")[2])
        return read(way, report)


def read(way: Way, report: Path) -> Run:
    found = Run(way)
    through = []
    for case in ET.parse(report).iter("testcase"):
        properties = {each.get("name"): each.get("value") for each in case.iter("property")}
        name = f"{case.get('name')}"
        if case.find("failure") is not None or case.find("error") is not None:
            found.faults.append(name)
        if "held" in properties:
            found.tried += 1
            found.held += properties["held"] == "True"
            found.level = properties.get("level") or found.level
            if properties["held"] != "True":
                through.append(f"`{name.removeprefix('test_')}`")
    skipped = Counter(str(case.get("message")) for case in ET.parse(report).iter("skipped"))
    found.fault = "; ".join(skipped) if not found.tried else ""
    found.through = tuple(through)
    return found


def ways() -> list[Way]:
    users = (False, True) if os.geteuid() == 0 else (True,)
    tools = [(True, True), (False, True), (True, False)]
    if os.geteuid() != 0:  # who can not mount over bubblewrap has what there is
        tools = [(os.path.exists(BUBBLEWRAP), True), (True, False)]
    return [Way(ordinary, *tool) for ordinary in users for tool in tools]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--user-python", default=sys.executable)
    parser.add_argument("pytest", nargs="*", help="more arguments for pytest")
    given = parser.parse_args()
    runs = []
    for way in ways():
        runs.append(run(way, given.user_python if way.ordinary else sys.executable, given.pytest))
        print(f"{way}: {runs[-1]}", file=sys.stderr, flush=True)
    print(f"Linux {platform.release()}, {platform.machine()}\n")
    print("| daemon runs as | level | attacks | held | came through |")
    print("|---|---|---|---|---|")
    for each in runs:
        came = "; ".join(each.through) or each.fault or "none"
        print(f"| {each.way} | {each.level} | {each.tried} | {each.held} | {came} |")
    return int(any(each.faults for each in runs))


if __name__ == "__main__":
    sys.exit(main())
