"""Whom a charter lets in, what for, and when."""

import math
from datetime import datetime
from types import SimpleNamespace
from typing import Any

import pytest

from meshd_node.charter.allowance import Cage, allowance, caged, welcomes_others
from meshd_node.charter.conditions import Conditions, why_closed
from meshd_node.charter.config import CharterConfig
from meshd_node.charter.words import standing, told
from meshd_node.errors import ConfigError
from meshd_protocol.ids import to_text
from meshd_protocol.limits import MIB
from meshd_protocol.names import Role
from meshd_protocol.records import CageLevel, Runtime

PYTHON, COMMAND, WASM = Runtime
BOTH = frozenset({Role.WORKER, Role.SUBMITTER})
NONE, WASM_ONLY, CONFINED, STRICT = (Cage(level, known=True) for level in CageLevel)
NOON = datetime(2026, 11, 2, 12, 0)
QUIET = Conditions(NOON, math.inf, 0.0, 1 << 40)


def certified(number: int, operator: str = "lab", roles: frozenset[Role] = BOTH) -> Any:
    return SimpleNamespace(node=bytes([number]) * 20, operator=operator, roles=roles)


ME, MATE, GUEST = certified(1), certified(2), certified(3, "guests")


def allowed(charter: CharterConfig, cage: Cage, owner: Any, closed: str = "", me: Any = ME) -> tuple[Runtime, ...]:
    found = allowance(charter, closed, cage, me, owner)
    assert all(found.why_not(runtime) == "" for runtime in found.runtimes)
    assert all(found.why_not(runtime) for runtime in set(Runtime) - set(found.runtimes))
    return found.runtimes


# --- what, by how well it is caged --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cage", "for_mates", "for_guests"),
    [
        (Cage(), tuple(Runtime), ()),
        (NONE, tuple(Runtime), ()),
        (WASM_ONLY, tuple(Runtime), (WASM,)),
        (CONFINED, tuple(Runtime), (WASM,)),
        (STRICT, tuple(Runtime), tuple(Runtime)),
    ],
)
def test_by_default_only_a_strict_cage_runs_programs_of_other_operators(
    cage: Cage, for_mates: tuple[Runtime, ...], for_guests: tuple[Runtime, ...]
) -> None:
    assert allowed(CharterConfig(), cage, MATE) == for_mates
    assert allowed(CharterConfig(), cage, ME) == for_mates
    assert allowed(CharterConfig(), cage, GUEST) == for_guests
    assert welcomes_others(CharterConfig(), cage, ME) is bool(for_guests)


def test_who_may_not_come_in_yet_is_told_why() -> None:
    assert "not known yet" in caged(CharterConfig(), Cage(), own=False).reason
    reason = caged(CharterConfig(), CONFINED, own=False).reason
    assert reason == "other operators' work needs the cage level strict there, and its cage is confined"


def test_ones_own_work_may_be_asked_for_a_cage_too_even_this_machines() -> None:
    charter = CharterConfig(own_level="confined")

    assert allowed(charter, NONE, ME) == allowed(charter, NONE, MATE) == ()
    assert allowed(charter, WASM_ONLY, ME) == (WASM,)
    assert allowed(charter, CONFINED, ME) == tuple(Runtime)


def test_a_layer_that_the_charter_names_must_be_active() -> None:
    charter = CharterConfig(others_layers=("memory", "network"))
    half = Cage(CageLevel.STRICT, frozenset({"network"}), known=True)
    whole = Cage(CageLevel.STRICT, frozenset({"network", "memory"}), known=True)

    assert allowed(charter, half, GUEST) == ()
    assert caged(charter, half, own=False).reason.endswith("needs there: memory")
    assert allowed(charter, half, MATE) == allowed(charter, whole, GUEST) == tuple(Runtime)


def test_others_never_have_a_runtime_that_does_not_run_at_all() -> None:
    charter = CharterConfig(runtimes=("python", "wasm"), others_runtimes=("wasm", "command"))

    assert allowed(charter, STRICT, MATE) == (PYTHON, WASM)
    assert allowed(charter, STRICT, GUEST) == (WASM,)
    assert not welcomes_others(CharterConfig(others_runtimes=()), STRICT, ME)


# --- who ----------------------------------------------------------------------------------------------------------


def test_operators_and_nodes_that_are_named_are_the_only_ones() -> None:
    charter = CharterConfig(operators=("lab",), nodes=(to_text(GUEST.node),))

    assert allowed(charter, STRICT, MATE) == allowed(charter, STRICT, GUEST) == tuple(Runtime)
    assert allowed(charter, STRICT, certified(4, "guests")) == ()
    assert welcomes_others(charter, STRICT, ME)
    assert not welcomes_others(CharterConfig(operators=("lab",)), STRICT, ME)


def test_roles_are_those_of_the_certificate() -> None:
    charter = CharterConfig(roles=("submitter", "trusted"))

    assert allowed(charter, STRICT, MATE) == ()
    assert allowed(charter, STRICT, certified(2, roles=BOTH | {Role.TRUSTED})) == tuple(Runtime)


def test_this_machines_users_need_neither_a_name_in_the_charter_nor_its_hours() -> None:
    charter = CharterConfig(operators=("others",), roles=("trusted",))

    assert allowed(charter, NONE, ME, closed="outside its hours") == tuple(Runtime)
    assert allowed(charter, NONE, MATE) == ()
    assert allowed(CharterConfig(), STRICT, MATE, closed="outside its hours") == ()


def test_certificates_come_before_any_charter() -> None:
    assert allowed(CharterConfig(), STRICT, certified(2, roles=frozenset({Role.WORKER}))) == ()
    assert allowed(CharterConfig(), STRICT, MATE, me=certified(1, roles=frozenset({Role.SUBMITTER}))) == ()


# --- when ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("charter", "now", "closed"),
    [
        (CharterConfig(), QUIET, ""),
        (CharterConfig(hours=("mon 11:00-13:00",)), QUIET, ""),
        (CharterConfig(hours=("sat,sun", "mon 13:00-14:00")), QUIET, "it lends at certain hours only (sat,sun, mon"),
        (CharterConfig(idle_s=600), QUIET._replace(input_idle_s=600), ""),
        (CharterConfig(idle_s=600), QUIET._replace(input_idle_s=599), "somebody uses it: it lends after 600 s"),
        (CharterConfig(busy_cpus_max=0.5), QUIET._replace(busy_cpus=0.5), ""),
        (CharterConfig(busy_cpus_max=0.5), QUIET._replace(busy_cpus=0.6), "it is busy with its own"),
        (CharterConfig(busy_cpus_max=0.5), QUIET._replace(busy_cpus=None), "its load is not known"),
        (CharterConfig(idle_s=600), QUIET._replace(input_idle_s=None), "it sees no keyboard, mouse or terminal"),
        (CharterConfig(), QUIET._replace(input_idle_s=None, busy_cpus=None), ""),
        (CharterConfig(disk_free_mib=10), QUIET._replace(disk_free_bytes=10 * MIB), ""),
        (CharterConfig(disk_free_mib=10), QUIET._replace(disk_free_bytes=10 * MIB - 1), "less than 10 MiB are free"),
    ],
)
def test_all_that_the_charter_asks_for_must_hold(charter: CharterConfig, now: Conditions, closed: str) -> None:
    found = why_closed(charter, now)

    assert found.startswith(closed)
    assert bool(found) is bool(closed)


# --- the file -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({"hours": ("mon-fry",)}, "charter.hours: 'mon-fry'"),
        ({"nodes": ("ada",)}, "charter.nodes needs whole ids"),
        ({"roles": ("boss",)}, "charter.roles may have worker, submitter, issuer, coordinator, trusted, not 'boss'"),
        ({"runtimes": ("ruby",)}, "charter.runtimes may have python, command, wasm, not 'ruby'"),
        ({"others_level": "wasm-only"}, 'others_runtimes = ["wasm"] has others run WebAssembly only'),
        ({"own_level": "good"}, "charter.own_level must be one of none, confined, strict, not 'good'"),
        ({"operators": ("",)}, "charter.operators has an empty entry"),
        ({"operators": ("a",) * 257}, "charter.operators has 257 entries, 256 are allowed"),
        ({"grace_s": -1.0}, "charter.grace_s must be from 0"),
        ({"busy_cpus_max": math.nan}, "charter.busy_cpus_max must be from 0"),
        ({"gpus": -2}, "charter.gpus must be from -1 to 4096 (-1 is all), not -2"),
        ({"gpu_workers": 0}, "charter.gpu_workers must be from 1"),
    ],
)
def test_a_charter_that_can_not_be_used_is_one_line_that_names_the_key(settings: Any, expected: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CharterConfig(**settings)

    assert expected in str(caught.value)
    assert "\n" not in str(caught.value)


# --- words --------------------------------------------------------------------------------------------------------


def test_words_say_who_when_and_how_much() -> None:
    charter = CharterConfig(operators=("lab", "guests"), roles=("trusted",), hours=("sat,sun",), idle_s=60, slots=2)

    found = told(charter, "lab")

    assert found["who"] == "operators lab, guests, with role trusted"
    assert found["when"] == "sat,sun, after 60 s without input; what runs may go on for 30 s"
    assert found["much"] == "2 workers, all memory that is free, all GPUs"
    assert found["own"] == "operator lab: python, command, wasm, in any cage or none"
    assert found["others"] == "other operators: python, command, wasm, in a cage of level strict"


def test_words_say_what_holds_now_and_when_it_holds_again() -> None:
    charter = CharterConfig(hours=("mon-fri 19:00-07:00",))
    closed = why_closed(charter, QUIET)

    found = standing(charter, closed, CONFINED, NOON)

    assert found["others"] == "nothing: it lends at certain hours only (mon-fri 19:00-07:00); again Mon 19:00"
    assert found["own"].startswith("this machine's users only, python, command, wasm; no other nodes: it lends")
    assert standing(CharterConfig(), "", STRICT, NOON) == {
        "own": "python, command, wasm",
        "others": "python, command, wasm",
    }
    assert standing(CharterConfig(), "", CONFINED, NOON)["others"].startswith("wasm: other operators' work needs")
