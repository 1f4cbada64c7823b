"""What of the host a cage shows, and what it never does."""

import os
import sys
from pathlib import Path

import numpy
import pytest

import meshd_node
from meshd_node.errors import CageError
from meshd_node.exec.cage.closure import closed_to_others, closure, folders_above, outermost
from meshd_node.exec.cage.makers import makers
from meshd_node.exec.cage.spec import CageSpec, Limits, checked_user, user_of

LIMITS = Limits(pids=1, scratch_bytes=1, open_files=1, file_bytes=1)


def _spec(uid: int | None) -> CageSpec:
    return CageSpec(
        number=1, argv=("/bin/true",), environ={}, read_only=(), limits=LIMITS, scratch=Path("/tmp/none"), uid=uid
    )


def _shows(path: str | None) -> bool:
    return any(Path(str(path)).resolve().is_relative_to(shown) for shown in closure())


def test_the_interpreter_its_packages_and_this_program_are_shown() -> None:
    assert all(map(_shows, (sys.executable, os.__file__, numpy.__file__, meshd_node.__file__)))


def test_what_imports_look_through_for_this_program_is_shown() -> None:
    """An interpreter that may not list the folder of a package that is edited in place does not find it there."""
    assert _shows(str(Path(str(meshd_node.__file__)).parents[1]))


def test_folders_of_people_and_of_services_are_not_shown() -> None:
    shown = set(closure())

    assert shown.isdisjoint(map(Path, ("/", "/etc", "/home", "/root", "/var", "/run", "/tmp", str(Path.home()))))


def test_what_a_link_leads_to_is_shown_with_it(tmp_path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")

    assert {tmp_path / "link", tmp_path / "real"} <= set(closure(tmp_path / "link"))


def test_an_environment_that_is_not_there_is_left_out(tmp_path) -> None:
    assert closure(tmp_path / "none") == closure()


def test_paths_in_others_are_dropped_and_names_that_only_begin_alike_are_not() -> None:
    paths = map(Path, ("/usr/lib", "/usr", "/usr-local", "/usr/lib/x", "/opt/a"))

    assert outermost(paths) == tuple(map(Path, ("/opt/a", "/usr", "/usr-local")))


def test_folders_come_before_what_they_hold() -> None:
    assert folders_above([Path("/b/c/d"), Path("/b/a")]) == [Path("/b"), Path("/b/c")]


def test_a_folder_that_others_can_not_enter_is_found_wherever_it_is_on_the_way(tmp_path) -> None:
    closed = tmp_path / "closed"
    (closed / "open").mkdir(parents=True)
    closed.chmod(0o700)

    assert closed_to_others([Path("/usr"), closed / "open"]) == closed / "open"
    assert closed_to_others([Path("/usr")]) is None


def test_no_cage_runs_as_root(monkeypatch) -> None:
    """In a namespace of users made by root a process without any capability still owns the files of /proc/sys."""
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    for uid in (0, None):
        with pytest.raises(CageError, match="user of its own"):
            checked_user(_spec(uid))


def test_who_is_not_root_gives_cages_no_other_user(monkeypatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1_000)

    assert user_of(5) is None
    assert checked_user(_spec(None)) is None
    with pytest.raises(CageError, match="only root"):
        checked_user(_spec(2_000_000_005))


def test_cages_that_live_at_once_have_users_of_their_own(monkeypatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)

    assert len({user_of(number) for number in range(70_000, 70_000 + 4_096)}) == 4_096


def test_makers_end_with_the_one_that_always_works() -> None:
    names = [maker.name for maker in makers()]

    assert names[-2:] == ["confined", "plain"]
    assert len(set(names)) == len(names)
