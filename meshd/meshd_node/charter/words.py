"""What a charter allows, in words for whoever lends this machine."""

from collections.abc import Sequence
from datetime import datetime

from meshd_node.charter.allowance import Cage, caged
from meshd_node.charter.config import CharterConfig
from meshd_node.charter.hours import next_begin


def told(charter: CharterConfig, operator: str) -> dict[str, str]:
    """Who, when, how much, and what: one line each."""
    return {
        "who": _who(charter),
        "when": _when(charter),
        "much": _much(charter),
        "own": f"operator {operator}: {_work(charter, own=True)}",
        "others": f"other operators: {_work(charter, own=False)}",
    }


def standing(charter: CharterConfig, closed: str, cage: Cage, local: datetime) -> dict[str, str]:
    """What holds now: for the operator's own nodes, and for others; with the reason where it is less than all."""
    own, others = (_now(charter, cage, own=own) for own in (True, False))
    if closed:
        outside = charter.hours and not any(span.holds(local) for span in charter.spans)
        begin = next_begin(charter.spans, local) if outside else None
        again = f"; again {begin:%a %H:%M}" if begin else ""
        own, others = f"this machine's users only, {own}; no other nodes: {closed}{again}", f"nothing: {closed}{again}"
    return {"own": own, "others": others}


def _now(charter: CharterConfig, cage: Cage, *, own: bool) -> str:
    allowed = caged(charter, cage, own=own)
    names = ", ".join(runtime.name.lower() for runtime in allowed.runtimes)
    if len(allowed.runtimes) == len(charter.runtimes_for(own=own)):
        return names or "nothing"
    return f"{names or 'nothing'}: {allowed.reason}"


def _who(charter: CharterConfig) -> str:
    lists = [_listed("operator", charter.operators), _listed("node", charter.nodes)]
    whom = " or ".join(each for each in lists if each) or "every node of the mesh that may submit"
    return f"{whom}, with {_listed('role', charter.roles)}" if charter.roles else whom


def _when(charter: CharterConfig) -> str:
    conditions = [
        ", ".join(charter.hours) if charter.hours else "at any hour",
        f"after {charter.idle_s} s without input" if charter.idle_s else "",
        f"while others than meshd use at most {charter.busy_cpus_max:g} CPUs" if charter.busy_cpus_max else "",
        f"while {charter.disk_free_mib} MiB are free on the disk" if charter.disk_free_mib else "",
    ]
    return ", ".join(each for each in conditions if each) + f"; what runs may go on for {charter.grace_s:g} s"


def _much(charter: CharterConfig) -> str:
    shared = f", each shared by {charter.gpu_workers} workers" if charter.gpu_workers > 1 else ""
    parts = [
        "one worker for each CPU" if charter.slots < 0 else f"{charter.slots} workers",
        f"{charter.memory_mib} MiB of memory" if charter.memory_mib else "all memory that is free",
        f"{charter.scratch_mib} MiB of scratch space for each cage" if charter.scratch_mib else "",
        ("all GPUs" if charter.gpus < 0 else f"{charter.gpus} GPUs") + shared,
        f"{charter.upload_mbit:g} Mbit/s up" if charter.upload_mbit else "",
    ]
    return ", ".join(part for part in parts if part)


def _work(charter: CharterConfig, *, own: bool) -> str:
    names = ", ".join(runtime.name.lower() for runtime in charter.runtimes_for(own=own)) or "nothing"
    level = charter.level_for(own=own).name.lower()
    layers = charter.layers_for(own=own)
    caged_how = "in any cage or none" if level == "none" else f"in a cage of level {level}"
    return f"{names}, {caged_how}" + (f", with {', '.join(layers)}" if layers else "")


def _listed(noun: str, names: Sequence[str]) -> str:
    if not names:
        return ""
    return f"{noun}{'' if len(names) == 1 else 's'} {', '.join(names)}"
