"""The table `[charter]` of `node.toml`, checked."""

import math
from dataclasses import dataclass
from typing import Final

from meshd_node.charter.hours import Span, parse_span
from meshd_node.errors import ConfigError
from meshd_protocol.errors import MalformedId
from meshd_protocol.ids import NodeId, from_text
from meshd_protocol.limits import MIB
from meshd_protocol.names import Role
from meshd_protocol.records import CageLevel, Runtime

# More names than that are a case for an operator of their own in the certificates.
NAMES_MAX: Final = 256
_RUNTIMES: Final = {runtime.name.lower(): runtime for runtime in Runtime}
# Where only WebAssembly keeps to itself nobody's programs do: that is a matter of `others_runtimes`.
_LEVELS: Final = {level.name.lower(): level for level in (CageLevel.NONE, CageLevel.CONFINED, CageLevel.STRICT)}
_ALL_RUNTIMES: Final = tuple(_RUNTIMES)


@dataclass(frozen=True, slots=True, kw_only=True)
class CharterConfig:
    """What this machine lends: to whom, when, how much, and how well caged. It is read again whenever it changes."""

    # Who may send work, besides this machine's own users. Empty: every node of the mesh that may submit. `nodes` are
    # whole ids, since a node chooses its name itself. `roles` must all be in a node's certificate.
    operators: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()
    # When others' work may run; all of it must hold. Hours are local: "mon-fri 19:00-07:00", "sat,sun", "12:00-13:00".
    hours: tuple[str, ...] = ()
    # For so long nobody has used keyboard, mouse or terminals. 0 does not look.
    idle_s: int = 0
    # What others than meshd keep busy at most, in CPUs, over the last minute. 0 does not look.
    busy_cpus_max: float = 0.0
    # What is free at least on the disk of the node's folder.
    disk_free_mib: int = 0
    # How long running units may go on when they are not allowed any more.
    grace_s: float = 30.0
    # How much. Workers at a time, one CPU each: -1 is one for each CPU, 0 lends nothing, the node only submits.
    slots: int = -1
    # Of all work together; 0 is all that is free.
    memory_mib: int = 0
    # Of one cage; 0 is 1024.
    scratch_mib: int = 0
    # -1 is all of them. So many workers may share each.
    gpus: int = -1
    gpu_workers: int = 1
    # For large messages to all other nodes together, in Mbit/s; 0 is no bound.
    upload_mbit: float = 0.0
    # What runs at all, and what of it runs for other operators.
    runtimes: tuple[str, ...] = _ALL_RUNTIMES
    others_runtimes: tuple[str, ...] = _ALL_RUNTIMES
    # How well work must be caged: of this node's own operator, and of others. WebAssembly needs less than "confined".
    own_level: str = "none"
    others_level: str = "strict"
    # Layers that must be active besides, by the names that `meshd doctor` shows.
    own_layers: tuple[str, ...] = ()
    others_layers: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check_names()
        self._check_amounts()
        _chosen("runtimes", self.runtimes, _RUNTIMES)
        _chosen("others_runtimes", self.others_runtimes, _RUNTIMES)
        _chosen("roles", self.roles, {role.value: role for role in Role})
        for key in ("own_level", "others_level"):
            _check_level(key, getattr(self, key))
        _ = self.spans, self.node_ids

    @property
    def spans(self) -> tuple[Span, ...]:
        """The hours."""
        return tuple(parse_span(text, "charter.hours") for text in self.hours)

    @property
    def node_ids(self) -> frozenset[NodeId]:
        """The nodes that may send work."""
        return frozenset(_node_id(text) for text in self.nodes)

    @property
    def memory_bytes(self) -> int:
        """The bound on memory; 0 is none."""
        return self.memory_mib * MIB

    @property
    def scratch_bytes(self) -> int:
        """The bound on a cage's scratch space; 0 leaves it to the cage."""
        return self.scratch_mib * MIB

    @property
    def upload_bytes_per_s(self) -> float:
        """The bound on what is sent; 0 is none."""
        return self.upload_mbit * 1e6 / 8

    def runtimes_for(self, *, own: bool) -> tuple[Runtime, ...]:
        """What may run for one's own operator, or for others."""
        names = self.runtimes if own else [name for name in self.runtimes if name in self.others_runtimes]
        return tuple(_RUNTIMES[name] for name in names)

    def level_for(self, *, own: bool) -> CageLevel:
        """How well programs must be caged."""
        return _LEVELS[self.own_level if own else self.others_level]

    def layers_for(self, *, own: bool) -> tuple[str, ...]:
        """Layers that must be active besides."""
        return self.own_layers if own else self.others_layers

    def _check_names(self) -> None:
        for key in ("operators", "nodes", "hours", "own_layers", "others_layers"):
            names = getattr(self, key)
            if len(names) > NAMES_MAX:
                raise ConfigError(f"charter.{key} has {len(names)} entries, {NAMES_MAX} are allowed")
            if not all(names):
                raise ConfigError(f"charter.{key} has an empty entry")

    def _check_amounts(self) -> None:
        _within("slots", self.slots, -1, 4096, " (-1 is one for each CPU)")
        _within("gpus", self.gpus, -1, 4096, " (-1 is all)")
        _within("gpu_workers", self.gpu_workers, 1, 64)
        _within("idle_s", self.idle_s, 0, 7 * 86_400)
        _within("busy_cpus_max", self.busy_cpus_max, 0, 4096)
        _within("grace_s", self.grace_s, 0, 86_400)
        _within("upload_mbit", self.upload_mbit, 0, 1e6)
        for key in ("memory_mib", "scratch_mib", "disk_free_mib"):
            _within(key, getattr(self, key), 0, 1 << 40)


def _within(key: str, value: float, least: int, most: float, note: str = "") -> None:
    if not least <= value <= most or not math.isfinite(value):
        raise ConfigError(f"charter.{key} must be from {least} to {most:g}{note}, not {value:g}")


def _chosen(key: str, names: tuple[str, ...], known: dict[str, Runtime] | dict[str, Role]) -> None:
    for name in names:
        if name not in known:
            raise ConfigError(f"charter.{key} may have {', '.join(known)}, not {name!r}")


def _check_level(key: str, level: str) -> None:
    if level in _LEVELS:
        return
    hint = '; others_runtimes = ["wasm"] has others run WebAssembly only' if level == "wasm-only" else ""
    raise ConfigError(f"charter.{key} must be one of {', '.join(_LEVELS)}, not {level!r}{hint}")


def _node_id(text: str) -> NodeId:
    try:
        return NodeId(from_text(text))
    except MalformedId as error:
        raise ConfigError(
            f"charter.nodes needs whole ids, as `meshd peers --json` shows them, not {text!r}: nodes choose their names"
        ) from error
