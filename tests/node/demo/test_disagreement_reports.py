"""What is kept of results that differ, and how it reaches people: bounded, whatever a liar sends."""

import base64
from typing import Any

from meshd_node.cli.disagreements import excerpts_of, lines_of
from meshd_node.core.owner.effects import Disagreement
from meshd_node.services.jobs.reports import (
    JOB_REPORTS_KEPT,
    JOB_VALUES_BYTES_KEPT,
    REPORTS_KEPT,
    VALUE_BYTES_KEPT,
    VALUES_BYTES_KEPT,
    Reports,
)
from meshd_protocol.ids import JobId, NodeId, result_digest
from meshd_protocol.messages.attempts import AttemptResult, AttemptStatus
from meshd_protocol.values import encode, encode_exception
from meshd_sdk.disagreements import read_disagreement

ADA, ALAN, MALLORY = (NodeId(name.encode().ljust(20, b".")) for name in ("ada", "alan", "mallory"))


def job(number: int) -> JobId:
    return JobId(number.to_bytes(20, "big"))


def differing(job_id: JobId, unit: int, right: bytes, wrong: bytes) -> Disagreement:
    results = [
        AttemptResult(unit, attempt, AttemptStatus.RETURNED, value) for attempt, value in enumerate((right, wrong))
    ]
    good, bad = (result_digest(result.status, result.value) for result in results)
    votes = [(ADA, good, True), (MALLORY, bad, False), (ALAN, good, True)]
    return Disagreement(job_id, unit, good, votes, {good: results[0], bad: results[1]})


def told(right: object, wrong: object, *, settled: bool = True) -> dict[str, Any]:
    def result(value: object) -> dict[str, Any]:
        raised = isinstance(value, BaseException)
        data = encode_exception(value) if isinstance(value, BaseException) else encode(value)
        status = "raised" if raised else "returned"
        return {"status": status, "bytes": len(data), "value": base64.b64encode(data).decode()}

    return {
        "unit": 3,
        "accepted": "aa" if settled else None,
        "votes": [
            {"node": "m" * 32, "name": "mallory", "agreed": False, "digest": "bb"},
            {"node": "a" * 32, "name": "ada", "agreed": settled, "digest": "aa"},
        ],
        "results": {"aa": result(right), "bb": result(wrong)},
    }


def test_a_report_keeps_who_said_what_once_for_each_different_result() -> None:
    reports = Reports()
    reports.add(differing(job(1), 7, b"right", b"wrong"))

    (report,) = reports.of(job(1))
    assert report.unit == 7
    assert [node for node, _, agreed in report.votes if not agreed] == [MALLORY]
    assert sorted(said.value or b"" for said in report.said.values()) == [b"right", b"wrong"]
    assert reports.of(job(2)) == []


def test_a_job_keeps_its_newest_reports() -> None:
    reports = Reports()
    for unit in range(JOB_REPORTS_KEPT + 10):
        reports.add(differing(job(1), unit, b"r", b"w"))

    assert [report.unit for report in reports.of(job(1))] == list(range(10, JOB_REPORTS_KEPT + 10))


def test_values_of_one_job_are_bounded_and_the_oldest_go_first() -> None:
    reports = Reports()
    for unit in range(20):
        reports.add(differing(job(1), unit, b"r" * 20_000, bytes([unit]) * 20_000))

    kept = reports.of(job(1))
    assert kept[-1].unit == 19
    assert JOB_VALUES_BYTES_KEPT - 40_000 < sum(report.kept_bytes for report in kept) <= JOB_VALUES_BYTES_KEPT


def test_values_of_all_jobs_together_are_bounded() -> None:
    reports = Reports()
    for number in range(40):
        reports.add(differing(job(number), 0, b"r" * 60_000, b"w" * 60_000))

    sizes = [sum(report.kept_bytes for report in reports.of(job(number))) for number in range(40)]
    assert sizes[0] == 0
    assert sizes[-1] == 120_000
    assert sum(sizes) <= VALUES_BYTES_KEPT


def test_reports_of_all_jobs_together_are_bounded_though_they_have_no_values() -> None:
    reports = Reports()
    for number in range(REPORTS_KEPT + 5):
        reports.add(differing(job(number), 0, b"", b""))

    assert sum(len(reports.of(job(number))) for number in range(REPORTS_KEPT + 5)) == REPORTS_KEPT
    assert reports.of(job(4)) == []


def test_a_value_that_is_too_large_is_reported_without_its_bytes() -> None:
    reports = Reports()
    reports.add(differing(job(1), 0, b"right", b"w" * (VALUE_BYTES_KEPT + 1)))

    (report,) = reports.of(job(1))
    assert {(said.size, said.value is None) for said in report.said.values()} == {
        (5, False),
        (VALUE_BYTES_KEPT + 1, True),
    }


def test_a_forgotten_job_frees_what_its_reports_held() -> None:
    reports = Reports()
    for number in range(8):
        reports.add(differing(job(number), 0, b"r" * 60_000, b"w" * 60_000))
        reports.forget(job(number))
    reports.add(differing(job(9), 0, b"r" * 60_000, b"w" * 60_000))

    assert [len(reports.of(job(number))) for number in range(10)] == [0] * 9 + [1]


def test_programs_get_decoded_values_and_who_was_outvoted() -> None:
    found = read_disagreement(told({"self": 5}, {"self": 6}))

    assert found.settled
    assert found.accepted == {"self": 5}
    assert [(vote.name, vote.value) for vote in found.outvoted] == [("mallory", {"self": 6})]


def test_an_exception_and_bytes_that_are_no_value_are_told_apart() -> None:
    raised = read_disagreement(told(1, ValueError("no")))
    (vote,) = raised.outvoted
    assert vote.raised
    assert isinstance(vote.value, ValueError)

    answer = told(1, 2)
    answer["results"]["bb"]["value"] = base64.b64encode(b"\xc1").decode()
    (vote,) = read_disagreement(answer).outvoted
    assert vote.value is None
    assert vote.unreadable


def test_nobody_is_outvoted_where_no_quorum_agreed() -> None:
    found = read_disagreement(told(1, 2, settled=False))

    assert not found.settled
    assert found.outvoted == ()
    assert all(" undecided " in line for line in lines_of(told(1, 2, settled=False)))


def test_people_are_shown_the_place_where_results_differ() -> None:
    same = {f"name{number:03}": number for number in range(100)}

    believed, outvoted = lines_of(told(same | {"zeta000": 1}, same | {"zeta000": 2}))

    assert believed.startswith("unit 3  believed  ada: …")
    assert believed.endswith("'zeta000': 1}")
    assert outvoted.startswith("unit 3  outvoted  mallory: …")
    assert outvoted.endswith("'zeta000': 2}")


def test_a_liar_does_not_write_to_the_terminal_and_does_not_fill_it() -> None:
    lines = lines_of(told("fine", "\x1b]0;owned\x07" * 1_000))

    assert all(line.isprintable() and len(line) < 160 for line in lines)


def test_a_text_that_is_the_beginning_of_another_is_shown() -> None:
    assert excerpts_of(["abc", "abcdef"]) == ["abc", "abcdef"]
    assert excerpts_of(["x" * 100, "x" * 200])[0].startswith("…x")
