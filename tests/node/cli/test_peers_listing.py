"""Members as people see them: fitted to a terminal, the interesting ones first, and nothing that a stranger typed."""

import io
import json
from typing import Any

import pytest

from meshd_node.cli.columns import Column, lay_out
from meshd_node.cli.output import Output
from meshd_node.cli.peer_rows import WITH_SHORT_IDS, by_interest, by_name, summary
from meshd_node.cli.peers import print_peers
from meshd_node.cli.peers_watch import changes, picture, print_changes

NOW = 1_000_000.0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def a_peer(name: str, state: str = "alive", age: float = 10_000.0, **others: object) -> dict[str, Any]:
    return {
        "node": name.rjust(32, "a"), "name": name, "state": state, "operator": "lab", "addresses": ["10.0.0.1:7423"],
        "roles": ["submitter", "worker"], "cpus": 8.0, "memory_bytes": 1 << 34, "gpus": [], "slots": 8,
        "load": None, "queued": None, "granted": None, "doubt": "", "rtt_ms": None, "since": NOW - age,
        "version": "0.1", "record": [3, 14], "self": False, **others,
    }  # fmt: skip


def names(peers: list[dict[str, Any]]) -> list[str]:
    return [peer["name"] for peer in peers]


def test_this_node_is_first_and_whoever_is_gone_is_last() -> None:
    peers = [a_peer("a", "dead"), a_peer("b"), a_peer("c", self=True), a_peer("d", "left"), a_peer("e", "suspect")]

    assert names(by_name(peers)) == ["c", "b", "e", "a", "d"]


def test_who_watches_sees_doubts_first_then_news_then_the_lately_dead() -> None:
    peers = [
        a_peer("settled"), a_peer("old death", "dead", 90_000), a_peer("late death", "dead", 300),
        a_peer("came", age=5), a_peer("doubt", "suspect", 500), a_peer("me", self=True),
    ]  # fmt: skip

    assert names(by_interest(peers, NOW)) == ["doubt", "came", "late death", "me", "settled", "old death"]


def test_summary_counts_each_state() -> None:
    peers = [a_peer("a"), a_peer("b"), a_peer("c", "suspect"), a_peer("d", "dead")]

    assert summary(peers) == "4 nodes: 2 alive, 1 suspect, 1 dead"
    assert summary([a_peer("a")]) == "1 node: 1 alive"


def test_terminal_that_is_narrow_shows_fewer_columns_and_says_which_are_missing() -> None:
    listing = lay_out(WITH_SHORT_IDS, [a_peer("a")], 60)

    assert all(len(line) <= 60 for line in (listing.header, *listing.lines))
    assert {"NODE", "NAME", "STATE"} <= set(listing.header.split())
    assert listing.hidden[:2] == ["ROLES", "RECORD"]


def test_pipe_gets_every_column_and_whole_ids() -> None:
    out, err = io.StringIO(), io.StringIO()

    print_peers(Output(out, err), [a_peer("n1", load=0.5, queued=3, rtt_ms=1.26)])

    header, line = out.getvalue().splitlines()
    assert header.split() == [
        "NODE", "NAME", "STATE", "SINCE", "OPERATOR", "ROLES", "CPUS", "MEMORY", "GPUS", "LOAD", "RTT", "RECORD",
        "VERSION",
    ]  # fmt: skip
    assert line.split()[:3] == ["n1".rjust(32, "a"), "n1", "alive"]
    assert "50% +3" in line
    assert "1.3 ms" in line
    assert "3.14" in line
    assert "\x1b" not in out.getvalue()
    assert err.getvalue() == "1 node: 1 alive\n"


def test_what_is_doubted_of_a_member_is_said_below_the_table_and_moves_no_cursor() -> None:
    out, err = io.StringIO(), io.StringIO()

    print_peers(Output(out, err), [a_peer("n1"), a_peer("n2", doubt="it showed no \x1b[2J GPU")])

    *_, last = out.getvalue().splitlines()
    assert last.startswith("n2: it showed no ")
    assert "\x1b" not in last


def test_terminal_shows_the_dead_dimmed(monkeypatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    out = Terminal()

    print_peers(Output(out, io.StringIO()), [a_peer("a"), a_peer("b", "dead")])

    _, alive, dead = out.getvalue().splitlines()
    assert not alive.startswith("\x1b[2m")
    assert dead.startswith("\x1b[2m")


@pytest.mark.parametrize("name", ["\x1b[2Jgone", "a\nb", "\u202ertl", "x" * 200])
def test_name_that_a_member_chose_moves_no_cursor_and_fills_no_screen(name: str) -> None:
    """A name is signed by whoever has it, and is whatever they like."""
    out = io.StringIO()

    print_peers(Output(out, io.StringIO()), [a_peer("a") | {"name": name}])

    assert len(out.getvalue().splitlines()) == 2
    assert out.getvalue().replace("\n", "").isprintable()
    assert len(out.getvalue().splitlines()[1]) < 200


def test_letters_that_take_two_places_stay_in_line() -> None:
    columns = (Column("NAME", str), Column("X", lambda row: "x"))

    listing = lay_out(columns, ["節点", "node"], None)

    assert listing.lines == ["節点  x", "node  x"]


def test_screen_holds_what_fits_of_a_thousand_members() -> None:
    peers = [a_peer(f"n{number}") for number in range(999)] + [a_peer("doubt", "suspect")]

    lines = picture(peers, 80, 24, NOW).plain.splitlines()

    assert len(lines) == 24
    assert all(len(line) <= 80 for line in lines)
    assert lines[0].startswith("1000 nodes: 999 alive, 1 suspect")
    assert "doubt" in lines[3]
    assert lines[-1] == "… and 980 more"


def test_changes_are_told_in_words() -> None:
    before = {name: a_peer(name) for name in ("a", "b", "c", "same")}
    after = {"a": a_peer("a", "suspect"), "b": a_peer("b", record=[4, 1]), "same": a_peer("same"), "d": a_peer("d")}

    assert [(peer["name"], change) for peer, change in changes(before, after)] == [
        ("a", "alive → suspect"),
        ("b", "restarted, alive"),
        ("d", "new, alive"),
        ("c", "forgotten"),
    ]


@pytest.mark.parametrize("as_json", [False, True])
def test_watching_without_a_terminal_prints_a_line_for_each_change(as_json: bool) -> None:
    out = io.StringIO()
    views = iter([[a_peer("n1"), a_peer("n2")], [a_peer("n1"), a_peer("n2")], [a_peer("n1", "dead"), a_peer("n2")]])
    pauses = iter([False, False, True])

    print_changes(Output(out), lambda: next(views), lambda seconds: next(pauses), as_json=as_json)

    lines = out.getvalue().splitlines()
    assert len(lines) == 3
    if as_json:
        told = [json.loads(line) for line in lines]
        assert [(each["name"], each["change"]) for each in told] == [
            ("n1", "alive"), ("n2", "alive"), ("n1", "alive → dead"),
        ]  # fmt: skip
    else:
        assert lines[2].endswith("n1  alive → dead")
