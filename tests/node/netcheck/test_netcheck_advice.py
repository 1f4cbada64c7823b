"""What a person is told to mend, from what was found."""

from dataclasses import replace

import pytest

from meshd_node.services.netcheck.advice import Facts, advise
from meshd_protocol.messages.peer import DialOutcome

ADDRESS = "10.0.0.1:7423"
FINE = Facts(
    addresses={ADDRESS: [DialOutcome.REACHED] * 3},
    asked=3,
    others=5,
    unreached=0,
    sessions=5,
    ahead_s={"a": 0.1, "b": -0.2, "c": 0.0},
    certificate_days=80.0,
    issuers=2,
)


def problems(facts: Facts) -> list[str]:
    return [advice.text for advice in advise(facts) if advice.problem]


def notes(facts: Facts) -> list[str]:
    return [advice.text for advice in advise(facts) if not advice.problem]


def test_nothing_is_said_of_a_node_that_is_fine() -> None:
    assert advise(FINE) == []


def test_node_without_a_session_is_told_that_others_are_there() -> None:
    (text,) = problems(replace(FINE, sessions=0, ahead_s={}, asked=0, addresses={ADDRESS: []}))

    assert "none of the 5 other nodes that are known" in text


def test_node_that_knows_nobody_since_every_dial_failed_is_not_told_that_it_is_alone() -> None:
    """A clock that is an hour wrong looks like this: no session ever began."""
    facts = replace(FINE, others=0, unreached=2, sessions=0, ahead_s={}, asked=0, addresses={ADDRESS: []})

    (text,) = problems(facts)
    assert "no node of the mesh answers" in text


def test_node_whose_every_known_address_is_stale_is_told_where_to_put_one_that_is_right() -> None:
    """All machines got new addresses at once: nobody can find anybody, and a seed at the end of the file is no seed."""
    facts = replace(FINE, others=0, unreached=3, sessions=0, ahead_s={}, asked=0, addresses={ADDRESS: []}, issuers=0)

    (text,) = problems(facts)
    assert 'node.toml, above [listen]: seeds = ["HOST:PORT"]' in text


def test_first_node_of_a_mesh_has_no_problem() -> None:
    alone = replace(FINE, others=0, sessions=0, ahead_s={}, asked=0, addresses={ADDRESS: []}, issuers=1)

    assert problems(alone) == []
    assert "meshd invite" in notes(alone)[0]


@pytest.mark.parametrize(
    ("outcome", "words"),
    [(DialOutcome.REFUSED, "nobody listens"), (DialOutcome.SILENT, "port 7423"), (DialOutcome.FAILED, "another node")],
)
def test_address_that_no_peer_reaches_is_a_problem_and_says_why(outcome: DialOutcome, words: str) -> None:
    found = problems(replace(FINE, addresses={ADDRESS: [outcome] * 3}))

    assert "no peer can dial this node" in found[0]
    assert ADDRESS in found[1]
    assert words in found[1]


def test_one_reachable_address_is_enough() -> None:
    facts = replace(FINE, addresses={ADDRESS: [DialOutcome.REACHED], "192.168.0.1:1": [DialOutcome.SILENT]})

    assert problems(facts) == []
    assert "192.168.0.1:1" in notes(facts)[0]


def test_address_that_only_some_reach_is_said() -> None:
    facts = replace(FINE, addresses={ADDRESS: [DialOutcome.REACHED, DialOutcome.SILENT]})

    assert notes(facts) == [f"{ADDRESS}: only 1 of 2 peers reach it"]


@pytest.mark.parametrize("outcome", [DialOutcome.TOO_OFTEN, DialOutcome.NOT_YOURS])
def test_peers_that_did_not_dial_say_nothing_about_an_address(outcome: DialOutcome) -> None:
    facts = replace(FINE, addresses={ADDRESS: [outcome]})

    assert problems(facts) == []
    assert "ask again" in notes(facts)[0]


def test_clock_that_differs_from_most_peers_is_this_machines() -> None:
    (text,) = problems(replace(FINE, ahead_s={"a": 90.0, "b": 88.0, "c": 0.0}))

    assert "this machine's clock is 88 s behind" in text


def test_clock_of_one_peer_that_differs_from_the_others_is_that_peers() -> None:
    (text,) = notes(replace(FINE, ahead_s={"a": 0.1, "b": -20.0, "c": 0.0}))

    assert "the clock of b is 20 s behind" in text


def test_two_nodes_whose_clocks_differ_are_not_told_whose_is_wrong() -> None:
    (text,) = problems(replace(FINE, ahead_s={"a": -100.0}))

    assert "set the wrong one" in text


@pytest.mark.parametrize(("days", "is_problem"), [(40.0, False), (10.0, True), (-3.0, True)])
def test_certificate_that_was_not_renewed_is_said_while_there_is_time(days: float, is_problem: bool) -> None:
    facts = replace(FINE, certificate_days=days)

    assert bool(problems(facts)) is is_problem
    assert "was not renewed" in (problems(facts) or notes(facts))[0]


@pytest.mark.parametrize(
    ("issuers", "words"), [(1, "only one node can let others in"), (0, "start the node that founded the mesh again")]
)
def test_mesh_with_few_issuers_is_told_what_hangs_on_them(issuers: int, words: str) -> None:
    (text,) = notes(replace(FINE, issuers=issuers))

    assert words in text
