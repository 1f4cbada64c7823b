"""What lookup and netcheck print for people, and how they end."""

import io
import json
import threading
import time
from contextlib import contextmanager, nullcontext

import pytest

from meshd_node.cli import lookup, netcheck
from meshd_node.cli.exits import Exit
from meshd_node.cli.main import run
from meshd_node.cli.output import Output

ID = "a" * 32
MEMBER = {
    "kind": "node", "from": "membership", "node": ID, "name": "gpu-1", "state": "alive", "since": time.time() - 7_200,
    "operator": "lab", "addresses": ["10.0.0.1:7423"], "record": [2, 7],
}  # fmt: skip
CHECKED = {
    "listening": ["0.0.0.0:7423"],
    "addresses": [
        {
            "address": "10.0.0.1:7423",
            "dialled_by": [
                {"node": ID, "name": "n1", "outcome": "silent"},
                {"node": ID, "name": "n2", "outcome": "silent"},
                {"node": ID, "name": "n3", "outcome": "no answer"},
            ],
        }
    ],
    "asked": 3,
    "answered": 2,
    "peers": [
        {"node": ID, "name": "n1", "dialled": None, "rtt_ms": 1.5, "clock_ahead_s": -3.0, "heard_s": 2.0},
    ],
    "unreached": [{"node": None, "name": "", "address": "s:1", "reason": "s:1: \x1b[2Jrefused", "seconds_ago": 9.0}],
    "certificate_days": 80.4,
    "issuers": 1,
    "seeds": [],
    "advice": [{"problem": True, "text": "no peer can dial this node"}, {"problem": False, "text": "one issuer"}],
    "ok": False,
}


@pytest.fixture
def answering(monkeypatch):
    """Have the daemon answer every question with this."""

    def answer(verb, found) -> None:
        @contextmanager
        def asking():
            yield lambda question: found

        monkeypatch.setattr(verb, "asking", asking)

    return answer


def test_lookup_of_a_node_says_where_it_is_and_who_says_so(answering) -> None:
    cost = {"ms": 12.5, "hops": 2, "asked": 9, "answered_by": [{"node": ID, "name": "n7"}]}
    answering(lookup, {"asked": "gpu-1", "found": [MEMBER], "directory": cost})
    out, err = io.StringIO(), io.StringIO()

    assert lookup.lookup(Output(out, err), "gpu-1", as_json=False) == Exit.OK

    assert out.getvalue().splitlines() == [
        f"node       gpu-1 ({ID}), says membership (record 2.7)",
        "state      alive since 2 h",
        "addresses  10.0.0.1:7423",
    ]
    assert err.getvalue() == "directory: 2 hops, 9 questions, 12.5 ms, answered by n7\n"


def test_lookup_without_a_directory_says_that_this_node_alone_answered(answering) -> None:
    answering(lookup, {"asked": "gpu-1", "found": [MEMBER], "directory": None})
    err = io.StringIO()

    lookup.lookup(Output(io.StringIO(), err), "gpu-1", as_json=False)

    assert err.getvalue().startswith("answered by this node alone")


def test_job_of_the_directory_is_shown_with_its_owner_and_guardians() -> None:
    entry = {
        "kind": "job", "from": "directory", "node": ID, "name": "", "job": "j" * 32, "epoch": 2,
        "guardians": ["g" * 32], "record": [1, 1], "expires": time.time() + 600,
    }  # fmt: skip

    lines = lookup.lines_of(entry)

    assert lines[0].startswith(f"job        {'j' * 32}, says directory (record 1.1, ends in ")
    assert lines[1:] == [f"owner      - ({ID})", f"guardians  {'g' * 32}"]


@pytest.mark.parametrize("text", ["", "x" * 201, "a\nb", "\udcff"])
def test_what_can_be_neither_name_nor_id_is_refused_before_the_daemon_is_asked(text: str, capsys) -> None:
    assert run(["lookup", text]) == Exit.USAGE
    assert "printable" in capsys.readouterr().err


def test_netcheck_that_found_something_to_mend_ends_with_code_1(answering) -> None:
    answering(netcheck, CHECKED)
    out = io.StringIO()

    assert netcheck.netcheck(Output(out), as_json=False) == Exit.FAILED

    lines = out.getvalue().splitlines()
    assert "address    10.0.0.1:7423: silent (say n1, n2); no answer (says n3)" in lines
    assert any(
        line.split() == ["n1", "1.5", "ms", "-3.0", "s", "2", "s", "ago", "it", "dialled", "us"] for line in lines
    )
    assert "MEND       no peer can dial this node" in lines
    assert "unreached  s:1: �[2Jrefused, 9 s ago" in lines
    assert "standing   certificate valid for 80 days, 1 issuer in sight" in lines
    assert "\x1b" not in out.getvalue()


def test_a_clock_that_differs_by_nothing_is_not_behind(answering) -> None:
    """`-0.0 s` had somebody look for what is wrong with a clock."""
    answering(netcheck, CHECKED | {"peers": [CHECKED["peers"][0] | {"clock_ahead_s": -0.004}]})
    out = io.StringIO()

    netcheck.netcheck(Output(out), as_json=False)

    assert " +0.0 s " in out.getvalue()


def test_netcheck_says_what_it_waits_for_when_a_peer_is_frozen(monkeypatch) -> None:
    """It was silent for the 8 s in which a frozen peer might have answered, as if it hung itself."""
    out, err, noted = io.StringIO(), io.StringIO(), threading.Event()

    class Watched(Output):
        def note(self, text: str) -> None:
            super().note(text)
            noted.set()

    def answer_late(question) -> dict[str, object]:
        assert noted.wait(30), "a person was left alone"
        return CHECKED

    monkeypatch.setattr(netcheck, "asking", lambda: nullcontext(answer_late))
    netcheck.netcheck(Watched(out, err), as_json=True)

    assert "not all have answered" in err.getvalue()
    assert json.loads(out.getvalue()) == CHECKED


def test_netcheck_of_a_node_that_is_fine_ends_with_code_0(answering) -> None:
    answering(netcheck, CHECKED | {"advice": [], "ok": True})
    out = io.StringIO()

    assert netcheck.netcheck(Output(out), as_json=False) == Exit.OK
    assert out.getvalue().splitlines()[-1].startswith("fine")
