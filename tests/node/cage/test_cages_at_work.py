"""What ordinary work finds in a cage: enough to do it."""

import json


def test_programs_run_and_talk_to_each_other(warden, outcome_of) -> None:
    assert outcome_of(warden, "run_programs") == "42\n"


def test_threads_run(warden, outcome_of) -> None:
    """They are made by `clone`, since `clone3` does not exist."""
    assert outcome_of(warden, "run_threads") == 6


def test_pairs_of_sockets_work(warden, outcome_of) -> None:
    """asyncio and multiprocessing can not do without."""
    assert outcome_of(warden, "pair_sockets") == "heard"


def test_scratch_is_where_work_begins_and_can_be_written(warden, outcome_of) -> None:
    assert outcome_of(warden, "write_scratch") == "kept"
    assert outcome_of(warden, "work_in").endswith("scratch")


def test_numbers_of_numpy_are_there_for_whoever_can_read_them(warden) -> None:
    """Libraries ask the system for more than programs do: processors, memory, locales."""
    code = "import os, json, sys; d = json.loads(os.environ['TARGETS'])['answer']; " + (
        "os.write(d, json.dumps([os.cpu_count() > 0, open('/proc/meminfo').read(8)]).encode())"
    )
    end = warden.run(code)

    assert json.loads(end["said"]) == [True, "MemTotal"]
