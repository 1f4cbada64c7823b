"""What an owner may have run here: by its certificate, by the charter, by what keeps work apart."""

from typing import NamedTuple

from meshd_node.charter.config import CharterConfig
from meshd_protocol.certificates import Certified
from meshd_protocol.names import Role
from meshd_protocol.records import CageLevel, Runtime


class Cage(NamedTuple):
    """What this node's cages keep: the level, and the layers that are active. `known` once some were attacked."""

    level: CageLevel = CageLevel.NONE
    layers: frozenset[str] = frozenset()
    known: bool = False


class Allowance(NamedTuple):
    """The runtimes that an owner may use here, and why not others, for people."""

    runtimes: tuple[Runtime, ...]
    reason: str = ""

    def why_not(self, runtime: Runtime) -> str:
        """Why work of this runtime is not done here; "" if it is."""
        return "" if runtime in self.runtimes else self.reason


def allowance(charter: CharterConfig, closed: str, cage: Cage, me: Certified, owner: Certified) -> Allowance:
    """What `owner` may have run on the node `me`. `closed` is why others' work does not run now.

    This machine's own users need no permission, and no hours: it is theirs.
    """
    refusal = _why_nothing(charter, closed, me, owner)
    if refusal:
        return Allowance((), refusal)
    return caged(charter, cage, own=owner.operator == me.operator)


def caged(charter: CharterConfig, cage: Cage, *, own: bool) -> Allowance:
    """What may run by the charter's runtimes, level and layers, for the own operator or for others."""
    named = charter.runtimes_for(own=own)
    whose = "its own operator's" if own else "other operators'"
    missing = [layer for layer in charter.layers_for(own=own) if layer not in cage.layers]
    if missing and cage.known:
        return Allowance((), f"its cage lacks what {whose} work needs there: {', '.join(missing)}")
    asked = charter.level_for(own=own)
    runtimes = tuple(runtime for runtime in named if not missing and cage.level >= _level(runtime, asked))
    if len(runtimes) == len(named):
        names = ", ".join(runtime.name.lower() for runtime in named)
        return Allowance(runtimes, f"it runs {names or 'nothing'} of {whose} work")
    if not cage.known:
        return Allowance(runtimes, f"it is not known yet what its cage keeps, and {whose} work needs that")
    has, needs = _text(cage.level), _text(asked)
    return Allowance(runtimes, f"{whose} work needs the cage level {needs} there, and its cage is {has}")


def welcomes_others(charter: CharterConfig, cage: Cage, me: Certified) -> bool:
    """Whether any node of another operator may have anything run here."""
    listed = not charter.operators or bool(charter.nodes) or any(name != me.operator for name in charter.operators)
    return listed and bool(caged(charter, cage, own=False).runtimes)


def _why_nothing(charter: CharterConfig, closed: str, me: Certified, owner: Certified) -> str:
    if Role.WORKER not in me.roles:
        return "this node's certificate has no role worker"
    if Role.SUBMITTER not in owner.roles:
        return "the owner's certificate has no role submitter"
    if owner.node == me.node:
        return ""
    lacking = [name for name in charter.roles if name not in owner.roles]
    if lacking:
        return f"its charter asks for the role {lacking[0]} in the owner's certificate"
    listed = owner.operator in charter.operators or owner.node in charter.node_ids
    if (charter.operators or charter.nodes) and not listed:
        return f"its charter does not name operator {owner.operator!r}, nor this owner"
    return closed


def _level(runtime: Runtime, asked: CageLevel) -> CageLevel:
    """WebAssembly keeps to itself in any cage."""
    return min(asked, CageLevel.WASM_ONLY) if runtime is Runtime.WASM else asked


def _text(level: CageLevel) -> str:
    return level.name.lower().replace("_", "-")
