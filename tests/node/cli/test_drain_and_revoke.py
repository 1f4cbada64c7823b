"""`drain` and `revoke` in this process: what they send, wait for and print, and what they refuse before they ask."""

import io
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from meshd_node.cli import drain as drain_verb
from meshd_node.cli import revoke as revoke_verb
from meshd_node.cli.drain import drain
from meshd_node.cli.exits import Exit
from meshd_node.cli.main import run
from meshd_node.cli.output import Output
from meshd_node.cli.revoke import revoke
from meshd_protocol.messages.local import Drain, Revoke


class FakeDaemon:
    """Answers in the order in which a test says."""

    def __init__(self) -> None:
        self.asked: list[Drain | Revoke] = []
        self.answers: list[dict[str, Any]] = []
        self.out, self.err = io.StringIO(), io.StringIO()

    @contextmanager
    def asking(self) -> Iterator[Any]:
        yield self.ask

    def ask(self, order: Drain | Revoke) -> dict[str, Any]:
        self.asked.append(order)
        return self.answers.pop(0)

    @property
    def output(self) -> Output:
        return Output(self.out, self.err)


@pytest.fixture
def daemon(monkeypatch) -> FakeDaemon:
    fake = FakeDaemon()
    monkeypatch.setattr(drain_verb, "asking", fake.asking)
    monkeypatch.setattr(revoke_verb, "asking", fake.asking)
    return fake


WAITING = {"job": "j1", "name": "sweep", "units": 3, "why": ["no node is connected that could run it"]}


def progress(running: int, own_units: int, state: str = "draining", own_running: int = 0) -> dict[str, Any]:
    kept_by = [WAITING] if own_units else []
    found = {"state": state, "running": running, "own_units": own_units, "own_running": own_running}
    return found | {"kept_by": kept_by}


def test_drain_returns_at_once_and_says_what_still_runs(daemon: FakeDaemon) -> None:
    daemon.answers = [progress(2, 5)]

    assert drain(daemon.output, on=True, wait=False, as_json=False) == 0

    assert daemon.asked == [Drain(True)]
    assert (
        daemon.out.getvalue()
        == "draining, not done yet: 2 units running here, 5 units of this node's own jobs to end\n"
    )


def test_drain_that_waits_asks_until_nothing_is_left(daemon: FakeDaemon) -> None:
    daemon.answers = [progress(1, 1), progress(1, 0), progress(0, 1), progress(0, 0)]
    pauses: list[float] = []

    assert drain(daemon.output, on=True, wait=True, as_json=False, pause=pauses.append) == 0

    assert len(pauses) == 3
    assert daemon.out.getvalue().startswith("drained: ")
    assert (
        daemon.err.getvalue() == "draining, not done yet: 1 unit running here, 1 unit of this node's own jobs to end\n"
    )


def test_drain_that_waits_ends_when_nothing_can_happen_and_says_what_keeps_it(daemon: FakeDaemon) -> None:
    """A node without others had a job of its own: whoever waited for its end waited for ever."""
    daemon.answers = [progress(1, 4), *[progress(0, 3)] * 21]
    pauses: list[float] = []

    assert drain(daemon.output, on=True, wait=True, as_json=False, pause=pauses.append) == Exit.FAILED

    assert sum(pauses[1:]) == 10.0
    assert "job j1 (sweep), 3 units: no node is connected that could run it" in daemon.err.getvalue()
    assert "meshd cancel ID" in daemon.err.getvalue()


def test_drain_waits_for_as_long_as_own_units_run_somewhere(daemon: FakeDaemon) -> None:
    """A unit may take an hour on another node: that nothing changes meanwhile says nothing."""
    daemon.answers = [*[progress(0, 1, own_running=1)] * 7_200, progress(0, 0)]

    assert drain(daemon.output, on=True, wait=True, as_json=False, pause=lambda _: None) == Exit.OK


def test_drain_off_takes_work_again(daemon: FakeDaemon) -> None:
    daemon.answers = [progress(0, 0, "ready")]

    assert drain(daemon.output, on=False, wait=False, as_json=False) == 0

    assert daemon.asked == [Drain(False)]
    assert daemon.out.getvalue() == "takes work again\n"


def test_both_print_json_for_scripts(daemon: FakeDaemon) -> None:
    revoked = {"node": "abc", "name": "ada", "operator": "lab", "until": 1_815_552_000.0, "reason": ""}
    daemon.answers = [progress(0, 0)]
    drain(daemon.output, on=True, wait=False, as_json=True)
    assert json.loads(daemon.out.getvalue()) == progress(0, 0)

    daemon.answers, daemon.out = [revoked], io.StringIO()
    revoke(daemon.output, Revoke("abc"), as_json=True)
    assert json.loads(daemon.out.getvalue()) == revoked


def test_revoke_says_who_and_until_when(daemon: FakeDaemon) -> None:
    daemon.answers = [
        {"node": "abc", "name": "ada", "operator": "lab", "until": 1_815_552_000.0, "reason": "sold"},
    ]

    assert revoke(daemon.output, Revoke("ada", "", "sold"), as_json=False) == 0

    assert daemon.asked == [Revoke("ada", "", "sold")]
    told = daemon.out.getvalue()
    assert told == "revoked ada (abc) of operator lab, until its certificates have ended on 2027-07-14\n"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["drain", "--off", "--wait"], "nothing to wait for"),
        (["revoke"], "NODE"),
        (["revoke", "ada", "--reason", "x" * 201], "201 characters, 200 are allowed"),
        (["revoke", "x" * 201], "201 characters"),
    ],
)
def test_what_makes_no_sense_is_refused_before_a_daemon_is_asked(arguments, words, capsys) -> None:
    assert run(arguments) == Exit.USAGE
    told = capsys.readouterr().err
    assert words in told
    assert told.count("\n") == 1


@pytest.mark.parametrize("arguments", [["drain"], ["revoke", "ada"]])
def test_without_a_daemon_both_say_so(arguments, capsys, monkeypatch, tmp_path) -> None:
    monkeypatch.setenv("MESHD_DIR", str(tmp_path))
    assert run(arguments) == Exit.UNAVAILABLE
    assert capsys.readouterr().err.count("\n") == 1
