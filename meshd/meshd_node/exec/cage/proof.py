"""What a cage keeps: found by attacking it (`trial`), said in layers, and summed up in a level.

Layers are named for what is out of reach, not for what keeps it there: two walls behind each other are one layer.
"""

import importlib.util
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from meshd_node.exec.cage.cgroups import Cgroups
from meshd_node.exec.cage.spec import Maker
from meshd_node.exec.cage.trial import Findings, Report, try_cage
from meshd_protocol.records import CageLevel


@dataclass(frozen=True, slots=True)
class Layer:
    """One thing that a cage keeps. `remedy` says how to get it where it is missing."""

    name: str
    active: bool
    detail: str
    remedy: str


@dataclass(frozen=True, slots=True)
class Proof:
    """What one maker's cages keep on this machine. `fault` says why there was no cage to attack."""

    maker: str
    level: CageLevel
    layers: tuple[Layer, ...]
    fault: str = ""


@dataclass(frozen=True, slots=True)
class _Rule:
    """A layer is active if it was attacked in all these ways, and none came through.

    `level` is the lowest for which it is wanted; None where it only adds to others. `attacks` are beginnings of names.
    """

    name: str
    level: CageLevel | None
    attacks: tuple[str, ...]
    remedy: str


_OWN_USER: Final = "`meshd up` as root, with a Python that others can read: then each cage has a user of its own"
_NO_ROOT: Final = f"`meshd install`: then no root makes the cages; or {_OWN_USER}"
_NAMESPACES: Final = (
    "allow users to make namespaces (sysctl user.max_user_namespaces, kernel.unprivileged_userns_clone, "
    "kernel.apparmor_restrict_unprivileged_userns), or install bubblewrap, or `meshd up` as root"
)
_LANDLOCK: Final = "run a kernel since 5.13 with `landlock` among its security modules (boot with lsm=landlock,...)"
_SECCOMP: Final = "run a kernel with CONFIG_SECCOMP_FILTER, on x86_64 or aarch64"
_CGROUPS: Final = "`meshd install`, or `meshd up` as root: then meshd may make control groups"

_RULES: Final = (
    _Rule("not root", CageLevel.CONFINED, ("run as root",), _NO_ROOT),
    _Rule("own user", None, ("share a user",), _OWN_USER),
    _Rule("files", CageLevel.CONFINED, ("read /etc/shadow", "read a private file"), f"{_NAMESPACES}; or {_LANDLOCK}"),
    _Rule("read-only system", CageLevel.CONFINED, ("write to ",), f"{_NAMESPACES}; or {_LANDLOCK}"),
    _Rule(
        "other processes",
        CageLevel.CONFINED,
        ("kill a process", "trace a process", "read a process", "read an environment"),
        f"{_NAMESPACES}; or {_NO_ROOT}",
    ),
    _Rule("environment", CageLevel.CONFINED, ("inherit an environment",), "no cage was made that empties it"),
    _Rule(
        "network",
        CageLevel.CONFINED,
        ("connect by TCP", "send by UDP", "socket AF_"),
        f"{_SECCOMP}; and {_NAMESPACES}",
    ),
    _Rule("unix sockets", CageLevel.CONFINED, ("abstract unix socket", "unix socket of a path"), f"{_SECCOMP}"),
    _Rule(
        "system calls",
        CageLevel.CONFINED,
        (
            "clone",
            "clone3",
            "unshare",
            "setns",
            "mount",
            "open_tree",
            "keyctl",
            "add_key",
            "io_uring",
            "bpf",
            "userfaultfd",
            "perf_event_open",
        ),
        _SECCOMP,
    ),
    _Rule(
        "privileges",
        CageLevel.CONFINED,
        ("gain privileges by a program", "become root", "change the root"),
        _NO_ROOT,
    ),
    _Rule("landlock", None, ("write outside of scratch",), _LANDLOCK),
    _Rule("namespaces", CageLevel.STRICT, ("share the ", "see a process"), _NAMESPACES),
    _Rule("memory", CageLevel.STRICT, ("memory",), _CGROUPS),
    _Rule("number of processes", CageLevel.STRICT, ("fork bomb",), _CGROUPS),
    _Rule("processor time", None, ("take the whole processor",), _CGROUPS),
    _Rule("scratch", CageLevel.STRICT, ("fill scratch",), _NAMESPACES),
    _Rule("open files", CageLevel.STRICT, ("open files",), "no cage was made that limits them"),
    _Rule("end", CageLevel.STRICT, ("outlive",), f"{_NAMESPACES}; or {_CGROUPS}"),
)


def prove(maker: Maker, cgroups: Cgroups | None) -> Proof:
    """Attack a cage of this maker and say what it kept. From the main thread, see `Maker`; 0.3 s."""
    return judge(maker.name, try_cage(maker, cgroups), wasm=wasm_runs())


def prove_in_turn(makers: Iterable[Maker], cgroups: Cgroups | None) -> list[Proof]:
    """What each maker's cages kept, up to the first that are strict."""
    proofs: list[Proof] = []
    for maker in makers:
        proofs.append(prove(maker, cgroups))
        if proofs[-1].level is CageLevel.STRICT:
            break
    return proofs


def best(proofs: Iterable[Proof]) -> Proof:
    """The first of the highest level; of the lowest one that could make a cage at all."""
    return max(proofs, key=lambda proof: (proof.level, not proof.fault))


def remedy(layer: str) -> str:
    """How to get a layer; empty for one that is not known here."""
    return next((rule.remedy for rule in _RULES if rule.name == layer), "")


def wasm_runs() -> bool:
    """Whether programs in WebAssembly can run here: they keep to themselves in any cage, and in none."""
    return importlib.util.find_spec("wasmtime") is not None


def judge(maker: str, findings: Findings, *, wasm: bool) -> Proof:
    """Sum up what was found. Without a cage that keeps natives apart, `wasm` programs still keep to themselves."""
    layers = [_layer(rule, findings) for rule in _RULES]
    held = {layer.name for layer in layers if layer.active}
    lowest = CageLevel.WASM_ONLY if wasm else CageLevel.NONE
    natives = [level for level in (CageLevel.CONFINED, CageLevel.STRICT) if not findings.fault and _holds(level, held)]
    return Proof(maker, max(natives, default=lowest), tuple(layers), findings.fault)


def _holds(level: CageLevel, held: set[str]) -> bool:
    return all(rule.name in held for rule in _RULES if rule.level is not None and rule.level <= level)


def _layer(rule: _Rule, findings: Findings) -> Layer:
    found = {name: _matching(name, findings) for name in rule.attacks}
    silent = [name.strip() for name, reports in found.items() if not reports]
    reports = {name: report for each in found.values() for name, report in each.items()}
    through = [f"{name} ({report.said})" for name, report in reports.items() if report.reached]
    if through:
        return Layer(rule.name, False, f"not kept from this: {', '.join(through)}", rule.remedy)
    if silent:
        return Layer(rule.name, False, findings.fault or f"not shown: {', '.join(silent)}", rule.remedy)
    return Layer(rule.name, True, _kept(reports), rule.remedy)


def _matching(beginning: str, findings: Findings) -> dict[str, Report]:
    """The reports of all attacks of a kind (`write to `), or of the one that has this very name."""
    if beginning in findings.reports:
        return {beginning: findings.reports[beginning]}
    if not beginning.endswith((" ", "_")):
        return {}
    return {name: report for name, report in findings.reports.items() if name.startswith(beginning)}


def _kept(reports: dict[str, Report]) -> str:
    answers = ", ".join(sorted({report.said for report in reports.values()}))
    if len(reports) > 1:
        return f"{len(reports)} attacks refused ({answers})"
    return f"refused ({answers})" if answers.isupper() else answers
