"""What `meshd up` says of its node: at once what is known at once, and the rest when it is known."""

from dataclasses import replace

from meshd_node.app.daemon import Lends, Started
from meshd_node.cli.up import lends_line, ready_line

STARTED = Started("ada", "lab", ("0.0.0.0:7423",), 4, proved=False)
NOW = {"own": "python, command, wasm", "others": "python, command, wasm"}


def test_a_ready_line_says_who_and_where_and_that_the_cage_is_being_proved() -> None:
    """It had 230 characters about a cage of which nothing was known yet."""
    assert ready_line(STARTED) == "ready: ada of mesh lab on 0.0.0.0:7423; proving its cage"


def test_a_ready_line_promises_no_proof_that_is_made_already_or_never_will_be() -> None:
    assert ready_line(replace(STARTED, proved=True)) == "ready: ada of mesh lab on 0.0.0.0:7423"
    assert ready_line(replace(STARTED, slots=0)) == "ready: ada of mesh lab on 0.0.0.0:7423; it lends no workers"


def test_the_line_after_the_proof_says_how_well_work_is_caged_and_whose_work_runs() -> None:
    lends = Lends(1, "caged (strict, by bubblewrap)", {"open": True, "fault": "", "closed": "", "now": NOW})

    assert lends_line(lends) == (
        "lends 1 worker, work is caged (strict, by bubblewrap); "
        "own operator's work: python, command, wasm; other operators': python, command, wasm"
    )
