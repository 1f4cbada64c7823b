"""What doctor prints and how it ends; cages are attacked for real in tests/node/cage_proof."""

import io
import json

import pytest

from meshd_node.capacity.gpus import GpuSurvey
from meshd_node.cli import doctor
from meshd_node.cli.daemon import DaemonAbsent
from meshd_node.cli.exits import Exit
from meshd_node.cli.output import Output
from meshd_node.exec.cage.proof import Layer, Proof
from meshd_node.exec.pool import OFF
from meshd_protocol.records import CageLevel, Gpu

LAYERS = (
    Layer("files", True, "2 attacks refused", "-"),
    Layer("memory", False, "not kept from this: memory", "a cgroup"),
)
STRICT = Proof("bubblewrap", CageLevel.STRICT, LAYERS[:1])
CONFINED = Proof("confined", CageLevel.CONFINED, LAYERS)
BROKEN = Proof("bubblewrap", CageLevel.WASM_ONLY, (), "bwrap: \x1b[2Jno")


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine without daemon, cgroups and GPUs, whose cages are strict."""

    def absent(question: object) -> object:
        raise DaemonAbsent("no daemon")

    monkeypatch.setattr(doctor, "ask", absent)
    monkeypatch.setattr(doctor.Cgroups, "find", lambda: None)
    monkeypatch.setattr(doctor, "survey", lambda nvml: GpuSurvey())
    monkeypatch.setattr(doctor, "prove_in_turn", lambda makers, cgroups: [STRICT])


def daemon(cage: object, isolation: str, **charter: object) -> dict[str, object]:
    """What a daemon says of itself."""
    now = {"own": "python", "others": "nothing: its cage is confined"}
    return {"cage": cage, "isolation": isolation, "charter": {"open": True, "fault": "", "now": now, **charter}}


def run(*, here: bool = False, as_json: bool = False) -> tuple[int, str]:
    out = io.StringIO()
    code = doctor.doctor(Output(out), here=here, as_json=as_json)
    return code, out.getvalue()


def test_a_strict_cage_is_fine() -> None:
    code, shown = run()

    assert code == Exit.OK
    assert "cage      strict, by bubblewrap" in shown
    assert "groups    none" in shown
    assert "MISSING" not in shown


def test_a_missing_layer_comes_with_the_way_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "prove_in_turn", lambda makers, cgroups: [BROKEN, CONFINED])

    code, shown = run()

    assert code == Exit.FAILED
    assert "note      no cage by bubblewrap: bwrap: �[2Jno" in shown
    assert "to get    memory: a cgroup" in shown
    assert "MEND      work of other operators needs the level strict" in shown


def test_json_says_the_same() -> None:
    code, shown = run(as_json=True)
    found = json.loads(shown)

    assert code == Exit.OK
    assert found["ok"] is True
    assert found["level"] == "strict"
    assert found["layers"] == [{"name": "files", "active": True, "detail": "2 attacks refused", "remedy": "-"}]
    assert found["tried"] == [{"maker": "bubblewrap", "level": "strict", "fault": ""}]


def test_a_gpu_that_fails_is_to_be_mended_though_the_cage_is_strict(monkeypatch: pytest.MonkeyPatch) -> None:
    faulty = GpuSurvey((Gpu("GPU-1", "H200", 1 << 37),), faults=("GPU 1 can not be used: lost",))
    monkeypatch.setattr(doctor, "survey", lambda nvml: faulty)

    code, shown = run()

    assert code == Exit.FAILED
    assert "gpu       H200, 128 GiB (GPU-1)" in shown
    assert "MEND      GPU 1 can not be used: lost" in shown


def test_a_daemon_is_asked_what_it_has_proved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its cages are others than those of whoever asks: it may be root, or have a cgroup of its own."""
    cage = {"level": "confined", "layers": [{"name": "memory", "active": False}]}
    monkeypatch.setattr(doctor, "ask", lambda question: daemon(cage, "caged (confined)"))

    code, shown = run()

    assert code == Exit.FAILED
    assert "cage      confined, as proved by the daemon at its start" in shown
    assert "to get    memory: `meshd install`" in shown
    assert [line.split() for line in shown.splitlines() if "FOUND" in line] == [["LAYER", "STATE", "FOUND"]]
    assert "memory  MISSING  not kept from an attack" in shown
    assert run(here=True)[0] == Exit.OK


def test_refused_makers_are_no_news_where_another_ones_cages_are_strict(monkeypatch: pytest.MonkeyPatch) -> None:
    """With Python below /root bubblewrap gets no users of its own, and bubblewrap by root does as well."""
    monkeypatch.setattr(doctor, "prove_in_turn", lambda makers, cgroups: [BROKEN, STRICT])

    code, shown = run()

    assert code == Exit.OK
    assert "note" not in shown


def test_a_cage_that_is_switched_off_is_the_first_thing_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "ask", lambda question: daemon({"level": "none", "layers": []}, OFF))

    code, shown = run()

    assert code == Exit.FAILED
    assert shown.startswith("MEND      the daemon's work is not caged: `off = true` in [cage] of node.toml")
    assert "cage      off; it could be strict, by bubblewrap" in shown
    assert shown.count("MEND") == 1


@pytest.mark.parametrize("cage", [None, {"level": "none", "layers": []}])
def test_a_daemon_without_a_cage_is_said_to_be_whatever_cages_there_could_be(
    cage: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "ask", lambda question: daemon(cage, "not caged"))

    code, shown = run()

    assert "cage      strict, by bubblewrap, as proved by attacking one now" in shown
    assert "daemon    its work is not caged" in shown
    assert "MEND      the daemon has proved no cage" in shown
    assert code == Exit.FAILED


def test_what_the_charter_lets_in_now_is_told_and_a_broken_one_is_to_be_mended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    cage = {"level": "strict", "layers": [{"name": "files", "active": True}]}
    monkeypatch.setattr(doctor, "ask", lambda question: daemon(cage, "caged"))
    code, shown = run()
    assert code == Exit.OK
    assert "charter   own operator's work: python; other operators': nothing: its cage is confined" in shown

    monkeypatch.setattr(doctor, "ask", lambda question: daemon(cage, "caged", fault="charter.slots\x1b must"))
    code, shown = run()
    assert code == Exit.FAILED
    assert "MEND      charter.slots� must; the charter before it holds" in shown


def test_groups_are_named_and_removed_at_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = []

    class Groups:
        text = "cgroups v2: memory, pids"

        def close(self) -> None:
            closed.append(self)

    monkeypatch.setattr(doctor.Cgroups, "find", Groups)

    assert "groups    cgroups v2: memory, pids" in run()[1]
    assert len(closed) == 1
