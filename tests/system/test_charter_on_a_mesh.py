"""Whoever lends a machine stays its master, also while it works: charters that change under real daemons."""

import signal
import time
from pathlib import Path

import pytest

CLOSED = '[charter]\noperators = ["nobody"]\ngrace_s = 0\n'


@pytest.fixture
def pair(lab):
    """A node that only submits, and one that lends a worker."""
    return lab.found(0, 1)


def settings_of(node) -> Path:
    return node.folder / "node.toml"


def test_work_that_a_new_charter_does_not_allow_is_handed_back_and_waits_until_one_allows_it(pair, until) -> None:
    submitter, lender = pair
    before = settings_of(lender).read_text()
    with submitter.mesh() as mesh:
        job = mesh.job(time.sleep, [0.2] * 12)
        until(lambda: job.progress()["done"] >= 1)
        settings_of(lender).write_text(before + CLOSED)
        assert lender.cli("reload").returncode == 0

        until(lambda: any("take no work at the moment" in line for line in submitter.why(job.id, 11)))
        done = job.progress()["done"]
        assert 1 <= done < 12
        assert lender.status()["charter"]["allows"]["who"] == "operator nobody"

        settings_of(lender).write_text(before)
        assert list(job.results()) == [None] * 12


def test_a_charter_takes_effect_by_itself_and_on_sighup(pair, until) -> None:
    _, lender = pair
    before = settings_of(lender).read_text()
    settings_of(lender).write_text(before + "[charter]\nmemory_mib = 100\n")
    until(lambda: "100 MiB of memory" in lender.status()["charter"]["allows"]["much"])

    settings_of(lender).write_text(before + "[charter]\nmemory_mib = 200\n")
    lender.signal(signal.SIGHUP)
    until(lambda: "200 MiB of memory" in lender.status()["charter"]["allows"]["much"])
    until(lambda: any(peer["memory_bytes"] == 200 << 20 for peer in pair[0].peers()))


def test_a_broken_charter_is_refused_and_the_one_before_it_holds(pair, until) -> None:
    _, lender = pair
    before = settings_of(lender).read_text()
    settings_of(lender).write_text(before + "[charter]\nslot = 7\n")

    refused = lender.cli("reload")

    assert refused.returncode == 64
    assert "unknown key charter.slot: did you mean charter.slots?" in refused.stderr
    shown = lender.cli("charter")
    assert shown.returncode == 1
    assert "MEND" in shown.stdout
    assert "1 workers" in shown.stdout
    assert "MEND" in lender.cli("status").stdout
    settings_of(lender).write_text(before)
    until(lambda: not lender.status()["charter"]["fault"])


def test_while_a_charter_is_closed_this_machines_users_still_work_and_others_see_no_worker(pair, until) -> None:
    submitter, lender = pair
    hours = time.localtime()
    ahead = f"{(hours.tm_hour + 2) % 24:02}:00-{(hours.tm_hour + 3) % 24:02}:00"
    text = settings_of(lender).read_text() + f'[charter]\nhours = ["{ahead}"]\n'
    settings_of(lender).write_text(text)

    until(lambda: all(peer["slots"] == 0 for peer in submitter.peers()))
    assert lender.status()["charter"]["closed"] == f"it lends at certain hours only ({ahead})"
    assert "again" in lender.cli("charter").stdout
    with lender.mesh() as mesh:
        assert mesh.submit(pow, 2, 10).result(20) == 1024


def test_without_a_daemon_the_file_is_read(pair) -> None:
    _, lender = pair
    lender.stop()

    shown = lender.cli("charter")

    assert shown.returncode == 0
    assert "no daemon runs" in shown.stdout
    assert "other operators: python, command, wasm, in a cage of level strict" in shown.stdout
