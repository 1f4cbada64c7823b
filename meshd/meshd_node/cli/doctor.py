"""`meshd doctor`: what keeps others' work apart from this machine, what is missing, and how to get it."""

from contextlib import closing, nullcontext
from pathlib import Path
from typing import Any, Final

import click

from meshd_node.capacity.gpus import load_nvml, survey
from meshd_node.capacity.pythons import PYTHON
from meshd_node.cli.charter import brief
from meshd_node.cli.daemon import DaemonAbsent, ask
from meshd_node.cli.exits import Exit
from meshd_node.cli.output import Output
from meshd_node.cli.text import printable, size, table_of
from meshd_node.exec.cage.cgroups import Cgroups
from meshd_node.exec.cage.makers import makers
from meshd_node.exec.cage.proof import Proof, best, prove_in_turn, remedy, wasm_runs
from meshd_node.exec.pool import OFF
from meshd_protocol.messages.local import Question
from meshd_protocol.records import CageLevel

_STRICT: Final = CageLevel.STRICT.name.lower()
# A daemon tells of each layer whether it held, not what it saw.
_HELD: Final = "all attacks refused"
_NOT_HELD: Final = "not kept from an attack, or not shown to be"


@click.command("doctor")
@click.option("--here", is_flag=True, help="Attack a cage of this user's, even if a daemon has attacked its own.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(here: bool, as_json: bool) -> int:
    """Say what keeps work apart from this machine, by the daemon or by attacking a cage now. Exit code 1: mend it."""
    return doctor(Output(), here=here, as_json=as_json)


def doctor(output: Output, *, here: bool, as_json: bool) -> int:
    """Ask the daemon what it has proved; without one, prove it."""
    daemon = None if here else _status()
    found = _proved_by_daemon(daemon) or _proved_here()
    found |= _resources()
    found["daemon"] = None if daemon is None else daemon["isolation"]
    found["charter"] = None if daemon is None else daemon["charter"]
    # A daemon without a cage is not made well by the cages that there could be.
    caged = daemon is None or found["proved_by"] == "daemon"
    found["ok"] = caged and found["level"] == _STRICT and not found["gpu_faults"] and _is_read(daemon)
    if as_json:
        output.json(found)
    else:
        _print(output, found)
    return Exit.OK if found["ok"] else Exit.FAILED


def _is_read(daemon: dict[str, Any] | None) -> bool:
    """Whether the charter that holds is the one in the file."""
    return daemon is None or not daemon["charter"]["fault"]


def _status() -> dict[str, Any] | None:
    try:
        return table_of(ask(Question.STATUS))
    except DaemonAbsent:
        return None


def _proved_by_daemon(daemon: dict[str, Any] | None) -> dict[str, Any] | None:
    """What a daemon says that its cages keep; None without one, and while it knows of none."""
    cage = daemon and daemon.get("cage")
    if not cage or not cage["layers"]:
        return None
    layers = [
        {**layer, "detail": _HELD if layer["active"] else _NOT_HELD, "remedy": remedy(layer["name"])}
        for layer in cage["layers"]
    ]
    return {
        "proved_by": "daemon",
        "level": cage["level"],
        "layers": layers,
        "maker": None,
        "cgroups": None,
        "tried": [],
    }


def _proved_here() -> dict[str, Any]:
    """What this user's cages keep, by attacking them: under a second."""
    cgroups = Cgroups.find()
    with closing(cgroups) if cgroups else nullcontext():
        proofs = prove_in_turn(makers(), cgroups)
    proof = best(proofs)
    return {
        "proved_by": "this command",
        "level": _level(proof),
        "maker": proof.maker,
        "cgroups": cgroups.text if cgroups else None,
        "layers": [
            {"name": layer.name, "active": layer.active, "detail": layer.detail, "remedy": layer.remedy}
            for layer in proof.layers
        ],
        "tried": [{"maker": each.maker, "level": _level(each), "fault": each.fault} for each in proofs],
    }


def _level(proof: Proof) -> str:
    return proof.level.name.lower().replace("_", "-")


def _resources() -> dict[str, Any]:
    gpus = survey(load_nvml(Path("/")))
    return {
        "runtimes": [f"python {PYTHON}", "command", *(["wasm"] if wasm_runs() else [])],
        "gpus": [{"uuid": gpu.uuid, "model": gpu.model, "memory_bytes": gpu.memory_bytes} for gpu in gpus.gpus],
        "gpu_faults": list(gpus.faults),
    }


def _print(output: Output, found: dict[str, Any]) -> None:
    off = found["daemon"] == OFF
    if off:
        output.line(f"MEND      the daemon's work is {OFF}; without that it is caged after a restart")
    elif found["daemon"] is not None:
        output.line(f"daemon    its work is {printable(found['daemon'])}")
    if found["charter"] is not None:
        output.line(f"charter   {brief(found['charter'])}")
        if found["charter"]["fault"]:
            output.line(f"MEND      {printable(found['charter']['fault'])}; the charter before it holds")
    by = f", by {found['maker']}" if found["maker"] else ""
    could = "off; it could be " if off else ""
    output.line(f"cage      {could}{found['level']}{by}, as proved by {_who(found)}")
    if found["proved_by"] != "daemon":
        output.line(f"groups    {found['cgroups'] or 'none: memory is bounded for each process alone'}")
    output.line(f"runtimes  {', '.join(found['runtimes'])}")
    for gpu in found["gpus"]:
        output.line(f"gpu       {printable(gpu['model'])}, {size(gpu['memory_bytes'])} ({printable(gpu['uuid'])})")
    for fault in found["gpu_faults"]:
        output.line(f"MEND      {printable(fault)}")
    for tried in found["tried"]:
        # Where one maker's cages are strict, it is of no interest that others are refused.
        if tried["fault"] and found["level"] != _STRICT:
            output.line(f"note      no cage by {tried['maker']}: {printable(tried['fault'])}")
    _print_layers(output, found["layers"])
    if found["daemon"] is not None and found["proved_by"] != "daemon" and not off:
        output.line("MEND      the daemon has proved no cage: ask again in some seconds, or see its log")
    if found["level"] != _STRICT:
        output.line(f"MEND      work of other operators needs the level {_STRICT}, unless the charter says otherwise")


def _who(found: dict[str, Any]) -> str:
    return "the daemon at its start" if found["proved_by"] == "daemon" else "attacking one now"


def _print_layers(output: Output, layers: list[dict[str, Any]]) -> None:
    rows = [(layer["name"], "active" if layer["active"] else "MISSING", layer["detail"]) for layer in layers]
    output.table(("LAYER", "STATE", "FOUND"), rows)
    for layer in layers:
        if not layer["active"]:
            output.line(f"to get    {printable(layer['name'])}: {layer['remedy'] or 'see `meshd doctor --here`'}")
