"""From what came of each attack to layers and a level."""

import pytest

from meshd_node.exec.cage.proof import best, judge, remedy
from meshd_node.exec.cage.trial import Findings, Report
from meshd_protocol.records import CageLevel

REFUSED = Report(False, "EPERM")
CONFINED = (
    "run as root", "read /etc/shadow", "read a private file", "write to /etc", "write to /proc/sys", "kill a process",
    "trace a process", "read a process", "read an environment", "inherit an environment", "connect by TCP",
    "send by UDP", "socket AF_NETLINK", "abstract unix socket", "unix socket of a path", "clone", "clone3", "unshare",
    "setns", "mount", "open_tree", "keyctl", "add_key", "io_uring", "bpf", "userfaultfd", "perf_event_open",
    "gain privileges by a program", "become root", "change the root",
)  # fmt: skip
STRICT = (
    "share the pid namespace", "share the mnt namespace", "share the net namespace", "share the ipc namespace",
    "see a process", "memory", "fork bomb", "fill scratch", "open files", "outlive",
)  # fmt: skip
MORE = ("share a user", "write outside of scratch", "take the whole processor")
# Of these kinds there are several, and one that was left out is not missed.
SEVERAL = ("write to ", "share the ")
ALL = dict.fromkeys((*CONFINED, *STRICT, *MORE), REFUSED)


def level_of(reports: dict[str, Report], *, wasm: bool = True) -> CageLevel:
    return judge("a maker", Findings(reports), wasm=wasm).level


def test_a_cage_that_keeps_everything_is_strict_with_every_layer_active() -> None:
    proof = judge("a maker", Findings(ALL), wasm=True)

    assert proof.level is CageLevel.STRICT
    assert all(layer.active for layer in proof.layers)


@pytest.mark.parametrize("attack", CONFINED)
def test_one_attack_that_comes_through_leaves_wasm_only(attack: str) -> None:
    assert level_of({**ALL, attack: Report(True, "done")}) is CageLevel.WASM_ONLY
    assert level_of({**ALL, attack: Report(True, "done")}, wasm=False) is CageLevel.NONE


@pytest.mark.parametrize("attack", STRICT)
def test_what_costs_the_node_but_opens_nothing_leaves_confined(attack: str) -> None:
    assert level_of({**ALL, attack: Report(True, "done")}) is CageLevel.CONFINED


@pytest.mark.parametrize("attack", MORE)
def test_a_second_wall_that_is_missing_costs_no_level(attack: str) -> None:
    assert level_of({**ALL, attack: Report(True, "done")}) is CageLevel.STRICT


@pytest.mark.parametrize("attack", [each for each in ALL if not each.startswith(SEVERAL) and each not in MORE])
def test_an_attack_without_a_report_counts_as_one_that_came_through(attack: str) -> None:
    """A prover that hangs or dies half-way must not raise the level."""
    reports = {name: report for name, report in ALL.items() if name != attack}

    assert level_of(reports) < CageLevel.STRICT


def test_nothing_is_proved_by_a_cage_that_was_never_made() -> None:
    proof = judge("a maker", Findings({}, "bwrap: No permissions"), wasm=False)

    assert proof.level is CageLevel.NONE
    assert proof.fault == "bwrap: No permissions"
    assert not any(layer.active for layer in proof.layers)
    assert {layer.detail for layer in proof.layers} == {"bwrap: No permissions"}


def test_a_cage_that_broke_after_all_attacks_is_none() -> None:
    assert judge("a maker", Findings(ALL, "it ended early"), wasm=False).level is CageLevel.NONE


def test_a_layer_says_which_attack_came_through_and_how_to_get_it() -> None:
    proof = judge("a maker", Findings({**ALL, "keyctl": Report(True, "the kernel listened")}), wasm=True)

    (layer,) = [layer for layer in proof.layers if not layer.active]
    assert layer.name == "system calls"
    assert layer.detail == "not kept from this: keyctl (the kernel listened)"
    assert "CONFIG_SECCOMP_FILTER" in layer.remedy
    assert remedy("system calls") == layer.remedy
    assert remedy("nothing of the kind") == ""


def test_of_several_proofs_the_first_of_the_highest_level_is_best() -> None:
    broken = judge("broken", Findings({}, "no"), wasm=True)
    weak = judge("weak", Findings({**ALL, "keyctl": Report(True, "done")}), wasm=True)
    confined, other = (
        judge(name, Findings({**ALL, "memory": Report(True, "took")}), wasm=True) for name in ("confined", "other")
    )

    assert best([broken, weak, confined, other]).maker == "confined"
    assert best([broken, weak]).maker == "weak"


def test_every_layer_can_be_published_by_its_name() -> None:
    """`CageLayer` takes 32 characters, an offer 32 layers."""
    layers = judge("a maker", Findings(ALL), wasm=True).layers

    assert len({layer.name for layer in layers}) == len(layers) <= 32
    assert all(1 <= len(layer.name) <= 32 and layer.remedy for layer in layers)
