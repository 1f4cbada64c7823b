"""Requirements from a program's side: what is locked, when, and that the lock goes before the units."""

import sys
from pathlib import Path

import pytest

from meshd_protocol.ids import function_digest
from meshd_protocol.locks import Lock
from meshd_protocol.messages.local import DefineFunction, OpenJob, SubmitUnits
from meshd_sdk import RequirementsError, environments
from meshd_sdk.environments import lock_of

HASH = "a" * 64


class FakeUv:
    """A resolver that pins each line it is given to 1.0; `asked` are those lines, `arguments` its options."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "uv"
        self.answers("print(*(f'{line}==1.0 --hash=sha256:" + HASH + "' for line in lines), sep='\\n')")

    def answers(self, source: str) -> None:
        note = f"open({str(self.folder / 'asked')!r}, 'a').write(' '.join([*sys.argv[1:], '<', *lines]) + chr(10))"
        self.path.write_text(f"#!{sys.executable}\nimport sys\nlines = sys.stdin.read().split()\n{note}\n{source}\n")
        self.path.chmod(0o755)

    @property
    def asked(self) -> list[str]:
        log = self.folder / "asked"
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture(autouse=True)
def uv(tmp_path: Path, monkeypatch) -> FakeUv:
    fake = FakeUv(tmp_path)
    monkeypatch.setattr(environments, "_find_uv", lambda: str(fake.path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return fake


def test_a_lock_is_asked_for_all_platforms_with_hashes_and_wheels_only(uv) -> None:
    lock = lock_of(["beta", "alpha"])

    assert [pin.name for pin in Lock.decode(lock).pins] == ["alpha", "beta"]
    (asked,) = uv.asked
    for needed in ("--universal", "--generate-hashes", "--only-binary :all:", "--strip-extras", "< beta alpha"):
        assert needed in asked
    assert f"--python-version {sys.version_info.major}.{sys.version_info.minor}" in asked


def test_the_same_requirements_are_locked_once_and_others_anew(uv, monkeypatch, tmp_path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("alpha\n")
    first = lock_of(["alpha"])
    assert lock_of(file) == lock_of(str(file)) == first
    assert len(uv.asked) == 1

    lock_of(["alpha", "beta"])
    monkeypatch.setenv("UV_INDEX_URL", "https://elsewhere.example/simple")
    lock_of(["alpha"])
    assert len(uv.asked) == 3


def test_a_kept_lock_that_was_damaged_is_made_anew_and_what_names_other_files_always_is(uv, tmp_path) -> None:
    first = lock_of(["alpha"])
    (kept,) = (tmp_path / "cache/meshd/locks").iterdir()
    kept.write_text("alpha==6.6.6\n")
    assert lock_of(["alpha"]) == first
    assert len(uv.asked) == 2

    uv.answers(f"print('alpha==1.0 --hash=sha256:{HASH}')")
    file = tmp_path / "requirements.txt"
    file.write_text("-r others.txt\n")
    lock_of(file)
    lock_of(file)
    assert len(uv.asked) == 4


def test_what_can_not_be_locked_is_said_in_the_resolvers_words(uv) -> None:
    uv.answers("sys.exit('error: no such package')")
    with pytest.raises(RequirementsError, match=r"can not be locked for Python 3\.\d+:\nerror: no such package"):
        lock_of(["alpha"])


@pytest.mark.parametrize("answer", ["alpha @ https://example.org/a.whl", "-e file:///src", "alpha==1.0"])
def test_what_no_node_would_install_is_refused_where_it_is_locked(uv, answer) -> None:
    uv.answers(f"print({answer!r})")
    with pytest.raises(RequirementsError, match="no paths, addresses or repositories"):
        lock_of(["alpha"])


@pytest.mark.parametrize("wrong", [["-r x"], [" --index-url x"], ["a\n-r x"], [1]])
def test_what_is_no_requirement_is_refused_before_anybody_is_asked(uv, wrong) -> None:
    with pytest.raises(ValueError, match="requirements are a file, or a list"):
        lock_of(wrong)
    assert not uv.asked


def test_a_file_that_is_not_there_is_an_error_of_its_own(tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        lock_of(tmp_path / "nothing.txt")


def test_the_lock_goes_before_the_units_of_each_job_and_its_needs_name_it(daemon, mesh) -> None:
    packed = mesh.options(requirements=["alpha"])
    lock = lock_of(["alpha"])
    assert packed.submit(pow, 2, 10).result(20) == 1024
    assert list(packed.job(abs, [-1, -2]).results()) == [1, 2]
    assert mesh.submit(pow, 2, 3).result(20) == 8

    openings = daemon.of_kind(OpenJob)
    assert [each.needs.environment for each in openings] == [function_digest(lock)] * 2 + [b""]
    streams = [stream for message, stream in daemon.received if isinstance(message, OpenJob)]
    for stream in streams[:2]:
        said = [message for message, to in daemon.received if to == stream]
        kinds = [type(message) for message in said]
        shipped = next(index for index, message in enumerate(said) if getattr(message, "data", b"") == lock)
        assert isinstance(said[shipped], DefineFunction)
        assert shipped < kinds.index(SubmitUnits)


def test_requirements_stay_with_the_options_that_follow_and_an_empty_list_takes_them_away(mesh) -> None:
    packed = mesh.options(requirements=["alpha"])

    assert packed.options(replicas=2)._options.lock == lock_of(["alpha"])
    assert packed.options(requirements=[])._options.lock == b""


def test_commands_and_modules_can_not_import_packages_and_say_so(mesh) -> None:
    with pytest.raises(ValueError, match="for Python functions"):
        mesh.options(requirements=["alpha"]).command(["true"])
