"""Whether workers can be users of their own, by what they have to read."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd_node.exec import isolation


@pytest.fixture
def packages(monkeypatch) -> Iterator[Path]:
    """The one folder from which workers would import, seen by a daemon that is root. Not below pytest's own folder,
    which is closed to other users."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        monkeypatch.setattr(isolation, "_needed", lambda: [Path(folder, "packages")])
        yield Path(folder, "packages")


def test_workers_are_users_of_their_own_where_these_can_read_what_they_need(packages) -> None:
    packages.mkdir(0o755)

    assert isolation.choose().own_users


def test_a_folder_that_others_can_not_enter_is_named(packages) -> None:
    packages.mkdir(0o700)

    chosen = isolation.choose()

    assert not chosen.own_users
    assert str(packages) in chosen.text


def test_a_folder_that_is_not_there_is_not_needed(packages) -> None:
    """Python of Debian names folders for packages that no virtual environment has: all workers there ran as root."""
    assert isolation.choose().own_users


def test_a_daemon_that_is_not_root_has_no_rights_to_give_away(packages, monkeypatch) -> None:
    packages.mkdir(0o755)
    monkeypatch.setattr(os, "geteuid", lambda: 1_000)

    assert not isolation.choose().own_users
