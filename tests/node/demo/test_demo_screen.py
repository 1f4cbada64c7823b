"""What the demo says: right, complete, and the truth when something is wrong."""

import io
import json
from dataclasses import replace

import pytest

from meshd_node.demo.findings import Findings, Lie, Share, plainest_lie
from meshd_node.demo.nodes import environment_of
from meshd_node.demo.screen import Screen
from meshd_sdk import Disagreement, Vote

TOP = [(f"name{number}", 1_000 - number) for number in range(20)]
FINDINGS = Findings(
    python="3.11.2",
    files=600,
    source_bytes=10 << 20,
    top=TOP,
    recounted=TOP,
    wrong=0,
    shares=[Share("ada", "a" * 32, False, 800, 0), Share("mallory", "m" * 32, True, 400, 60)],
    lie=Lie("json/decoder.py", "self", 110, 100, ("ada", "grace")),
    job_s=2.0,
    total_s=7.0,
)


def shown(findings: Findings) -> str:
    out = io.StringIO()
    Screen(out).findings(findings)
    return out.getvalue()


def test_the_story_has_the_result_the_liar_who_outvoted_it_and_the_figures() -> None:
    text = shown(FINDINGS)

    assert all(name in text for name, _ in TOP)
    assert "all 600 results that the mesh accepted are right" in text
    assert "mallory lied about 60 files; about json/decoder.py, for one:" in text
    assert "mallory        says self occurs 110 times" in text
    assert "ada and grace  say  self occurs 100 times, and outvoted it" in text
    assert "60 lies outvoted, 0 wrong results accepted" in text
    assert "300 files/s, 630 results/s" in text
    assert "meshd init" in text
    assert all(len(line) <= 80 for line in text.splitlines())


def test_a_wrong_result_is_not_talked_away() -> None:
    wrong = replace(FINDINGS, wrong=1)

    assert not wrong.agrees
    assert "the recount DISAGREES: 1 of 600 accepted results are wrong" in shown(wrong)
    assert "1 wrong result accepted" in shown(wrong)
    assert wrong.as_json()["recount_agrees"] is False


def test_a_liar_that_got_nothing_to_lie_about_is_no_error() -> None:
    honest = replace(FINDINGS, lie=None)

    assert "lied about none" in shown(honest)


def test_the_json_has_everything_that_people_are_shown() -> None:
    found = json.loads(json.dumps(FINDINGS.as_json()))

    assert found["top"][0] == {"identifier": "name0", "count": 1000}
    assert (found["lies_outvoted"], found["wrong_accepted"], found["recount_agrees"]) == (60, 0, True)
    assert found["lie"]["outvoted_by"] == ["ada", "grace"]
    assert [node["name"] for node in found["nodes"]] == ["ada", "mallory"]


def test_progress_without_a_terminal_is_a_few_lines() -> None:
    out = io.StringIO()
    with Screen(out).counting(1_000, "done") as progress:
        for ended in range(0, 1_001, 10):
            progress(ended, ended // 10)

    assert out.getvalue().count("files counted") == 3
    assert "250 of 1000 files counted, 25 lies outvoted" in out.getvalue()


def test_one_lie_is_one() -> None:
    out = io.StringIO()
    with Screen(out).counting(4, "done") as progress:
        progress(1, 1)

    assert "1 of 4 files counted, 1 lie outvoted" in out.getvalue()


def test_a_step_that_fails_is_not_ticked_off() -> None:
    out = io.StringIO()
    with pytest.raises(ValueError, match="no"), Screen(out).step("trying", "done"):
        raise ValueError("no")
    assert "done" not in out.getvalue()


def test_the_plainest_lie_is_the_one_that_is_furthest_off() -> None:
    def disagreement(unit: int, said: object, settled: bool = True) -> Disagreement:
        votes = (
            Vote("m", "mallory", False, False, said),
            Vote("a", "ada", settled, False, {"x": 5, "y": 1}),
            Vote("g", "grace", settled, False, {"x": 5, "y": 1}),
        )
        return Disagreement(unit, settled, votes)

    files = ["zero.py", "one.py", "two.py", "three.py"]
    found = plainest_lie(
        [
            disagreement(0, {"x": 6, "y": 1}),
            disagreement(1, {"x": 5, "y": 9}),
            disagreement(2, {"x": 99, "y": 1}, settled=False),
            disagreement(3, "no counts at all"),
        ],
        files,
        "mallory",
    )

    assert found == Lie("one.py", "y", 9, 1, ("ada", "grace"))
    assert plainest_lie([], files, "mallory") is None


def test_daemons_of_the_demo_inherit_no_settings_of_the_users_own(tmp_path) -> None:
    inherited = {"HOME": "/h", "MESHD_DIR": "/mine", "MESHD_SOCKET": "/s", "MESHD_SEEDS": "x:1", "NOTIFY_SOCKET": "@n"}

    environment = environment_of(tmp_path / "ada", tmp_path, inherited)

    assert environment["MESHD_DIR"] == str(tmp_path / "ada")
    assert environment["HOME"] == "/h"
    assert not {"MESHD_SOCKET", "MESHD_SEEDS", "NOTIFY_SOCKET"} & environment.keys()
