"""What a job asks of the nodes that run it, and what their offers have too little of."""

from typing import NamedTuple

from meshd_node.core import gpu_choice
from meshd_node.core.owner.plan import Plan, Trust
from meshd_node.core.tenant import slots_for
from meshd_protocol.limits import MIB
from meshd_protocol.records import CageLevel, Needs, Offer, Phase, Runtime


class Terms(NamedTuple):
    """`cage` is asked of strangers' nodes; whose word is enough alone runs it at any level."""

    needs: Needs
    cage: CageLevel


def terms_of(needs: Needs, plan: Plan) -> Terms:
    """What the default trust asks of strangers, or what the submitter asks who has said how many copies they want.

    A quorum counts independent words. On a node without a cage whoever else has work there could change results, and
    have a word on nodes that are not theirs. A submitter that names a quorum has weighed that.
    """
    if plan.trust is Trust.QUORUM:
        return Terms(needs, CageLevel.NONE)
    return Terms(needs, CageLevel.WASM_ONLY if needs.runtime is Runtime.WASM else CageLevel.CONFINED)


def lacks(offer: Offer, terms: Terms, *, trusted: bool) -> str:
    """What an offer has too little of, for people; "" if nothing."""
    needs = terms.needs
    return (
        _closed(offer)
        or _too_small(offer, needs)
        or _wrong_kind(offer, needs)
        or ("" if trusted else _not_caged(offer, terms.cage))
    )


def places(offer: Offer, needs: Needs) -> int:
    """How many units a node runs at once, as far as its offer tells; at least 1."""
    most = offer.slots // slots_for(needs.cpu_milli)
    if needs.memory_bytes:
        most = min(most, offer.memory_bytes // needs.memory_bytes)
    if needs.gpus:
        able = gpu_choice.usable(offer.gpus, needs.gpus, needs.gpu_memory_bytes)
        most = min(most, len(able) // needs.gpus)
    return max(most, 1)


def _closed(offer: Offer) -> str:
    if offer.phase is not Phase.ALIVE:
        return "it drains"
    return "it lends no slots" if offer.slots < 1 else ""


def _too_small(offer: Offer, needs: Needs) -> str:
    cpus = min(offer.cpu_milli, offer.slots * 1_000)
    if offer.cpu_milli < needs.cpu_milli or offer.slots < slots_for(needs.cpu_milli):
        return f"needs {needs.cpu_milli / 1000:g} cpus, it has {cpus / 1000:g}"
    if offer.memory_bytes < needs.memory_bytes:
        return f"needs {needs.memory_bytes // MIB} MiB of memory, it has {offer.memory_bytes // MIB}"
    return gpu_choice.lacking(offer.gpus, needs.gpus, needs.gpu_memory_bytes) if needs.gpus else ""


def _wrong_kind(offer: Offer, needs: Needs) -> str:
    if needs.runtime not in offer.runtimes:
        runs = ", ".join(runtime.name.lower() for runtime in offer.runtimes)
        return f"needs the runtime {needs.runtime.name.lower()}, it has {runs or 'none'}"
    if needs.python and needs.python not in offer.pythons:
        return f"needs Python {needs.python}, it has {', '.join(offer.pythons) or 'none'}"
    return ""


def _not_caged(offer: Offer, asked: CageLevel) -> str:
    if offer.cage >= asked:
        return ""
    return (
        f"it is another operator's, and its cage is {_text(offer.cage)}: without a quorum of your own choice "
        f"this work needs {_text(asked)} there"
    )


def _text(level: CageLevel) -> str:
    return level.name.lower().replace("_", "-")
