"""`meshd run`: its words, and what becomes of its results. The mesh itself is in tests/system."""

import io
import os
import resource
import stat
from concurrent.futures import CancelledError, Future

import pytest

from meshd_node.cli.exits import Exit
from meshd_node.cli.main import run as run_verb
from meshd_node.cli.output import Output
from meshd_node.cli.patience import Patience
from meshd_node.cli.run import run
from meshd_node.cli.runs import Order
from meshd_node.cli.spread import spread
from meshd_protocol.limits import UNIT_BYTES_MAX
from meshd_protocol.programs import CommandCall, OutputMissing, ProgramNotFound
from meshd_protocol.records import decode_record
from meshd_sdk.commands import CommandResult
from meshd_sdk.errors import MeshUnavailable, UnitFailed, UnitTimedOut


class Stream(io.TextIOWrapper):
    def __init__(self):
        super().__init__(io.BytesIO(), write_through=True)

    def text(self):
        return self.buffer.getvalue().decode()


class FakeMesh:
    """Runs what it is given by a function of argv: (exit code, files), or an error."""

    def __init__(self, program):
        self.program = program
        self.calls = []

    def submit_program(self, runtime, program, payload, make):
        call = decode_record(CommandCall, payload)
        self.calls.append(call)
        future = Future()
        outcome = self.program(*call.argv)
        if isinstance(outcome, Exception):
            future.set_exception(outcome)
        else:
            code, files = outcome
            future.set_result(CommandResult(call.argv, code, f"{call.argv[-1]}\n".encode(), b"err\n", files))
        return future


@pytest.fixture
def ordered(tmp_path, monkeypatch):
    """Run an order in a folder with files a, b and c."""
    monkeypatch.chdir(tmp_path)
    for name in "abc":
        (tmp_path / name).write_text(name)
    out, err = Stream(), Stream()

    def order(program, **asked):
        mesh = FakeMesh(program)
        code = run(Output(out, err), mesh, Order(**asked))
        return code, out.text(), err.text(), mesh.calls

    return order


def test_words_up_to_the_next_option_are_values():
    options = {"--each", "--in", "--to"}
    assert spread(["--each", "a", "b", "--to", "x", "--", "ls", "--each", "c"], {"--each"}, options) == [
        "--each", "a", "--each", "b", "--to", "x", "--", "ls", "--each", "c",
    ]  # fmt: skip
    assert spread(["--in=x", "--each", "-", "--", "ls"], {"--each", "--in"}, options) == [
        "--in=x",
        "--each",
        "-",
        "--",
        "ls",
    ]
    assert spread(["echo", "a"], {"--each"}, options) == ["echo", "a"]


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--each", "a", "b"], "name the command, after --"),
        (["--each", "--", "ls"], "--each names no file"),
        (["--memory", "lots", "--", "ls"], "memory must be bytes"),
        (["--replicas", "99", "--", "ls"], "replicas must be from 0 to 16"),
    ],
)
def test_words_that_make_no_sense_are_one_line(words, text, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("MESHD_DIR", str(tmp_path))

    assert run_verb(["run", *words]) == Exit.USAGE
    error = capsys.readouterr().err
    assert text in error
    assert error.endswith("(see meshd run --help)\n")
    assert error.count("\n") == 1


def test_a_file_whose_name_looks_like_an_option_is_told_from_a_mistyped_option(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-dash.txt").touch()

    assert run_verb(["run", "--each", "-dash.txt", "b.txt", "--", "ls"]) == Exit.USAGE
    assert run_verb(["run", "--each", "b.txt", "--tiem", "3", "--", "ls"]) == Exit.USAGE
    first, second = capsys.readouterr().err.splitlines()
    assert first == "meshd: '-dash.txt' looks like an option: write ./*.txt for *.txt (see meshd run --help)"
    assert "No such option '--tiem'" in second


def test_without_a_daemon_it_says_so(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("MESHD_DIR", str(tmp_path))

    assert run_verb(["run", "ls"]) == Exit.UNAVAILABLE
    assert "no daemon" in capsys.readouterr().err


def test_one_command_ends_as_it_ended(ordered):
    assert ordered(lambda *_: (3, {}), argv=("x", "y"))[:3] == (3, "y\n", "err\n")


def test_a_signal_is_told_as_shells_do(ordered):
    assert ordered(lambda *_: (-11, {}), argv=("x",))[0] == 139


def test_a_file_that_is_not_there_is_an_error_before_anything_runs(ordered):
    with pytest.raises(FileNotFoundError):
        ordered(lambda *_: (0, {}), argv=("x",), inputs=("nothing",))


@pytest.mark.parametrize(
    ("wrong", "error"),
    [("nothing", FileNotFoundError), ("large", ValueError), ("a/b", NotADirectoryError)],
)
def test_all_files_are_looked_at_before_any_is_submitted(ordered, tmp_path, monkeypatch, wrong, error):
    (tmp_path / "large").touch()
    os.truncate(tmp_path / "large", UNIT_BYTES_MAX + 1)
    monkeypatch.setattr(FakeMesh, "submit_program", lambda *_: pytest.fail("something was submitted"))
    with pytest.raises(error, match=wrong):
        ordered(lambda *_: (0, {}), argv=("x",), each=("a", wrong, "b"))


def test_each_file_is_an_input_and_its_outputs_are_saved(ordered, tmp_path):
    code, out, _, calls = ordered(
        lambda _, path: (0, {f"{path}.z": path.encode()}),
        argv=("gz", "{}"),
        each=("a", "b"),
        outputs=("{}.z",),
        to="o/{}",
    )

    assert (code, out) == (0, "a\nb\n")
    assert [(call.inputs[0].path, call.inputs[0].data, call.outputs) for call in calls] == [
        ("a", b"a", ("a.z",)),
        ("b", b"b", ("b.z",)),
    ]
    assert (tmp_path / "o" / "a" / "a.z").read_text() == "a"


def test_two_runs_that_leave_the_same_file_do_not_overwrite_each_other(ordered, tmp_path):
    code, _, err, _ = ordered(
        lambda _, path: (0, {"out": path.encode()}), argv=("x",), each=("a", "b"), outputs=("out",)
    )

    assert code == Exit.SOME_FAILED
    assert "--to 'out/{}'" in err
    assert (tmp_path / "out").read_text() == "a"


def test_a_folder_that_can_not_be_written_to_is_named_and_other_results_still_come(ordered, tmp_path):
    """A full disk ended everything, as if a file had not been found."""
    (tmp_path / "o").mkdir()
    (tmp_path / "o" / "a").write_text("in the way of a folder")
    asked = {"argv": ("x",), "outputs": ("out",), "to": "o/{}"}

    code, out, err, _ = ordered(lambda _, path: (0, {"out": path.encode()}), each=("a", "b", "c"), **asked)

    assert (code, out) == (Exit.CANT_CREATE, "a\nb\nc\n")
    assert "meshd: o/a: File exists" in err
    assert [(tmp_path / "o" / name / "out").read_text() for name in "bc"] == ["b", "c"]


@pytest.fixture
def small_files():
    """No file of this process may have more than 1 MiB: a disk that is full at that point."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_that_does_not_fit_on_the_disk_is_named_and_no_part_of_it_stays(ordered, tmp_path, small_files):
    (tmp_path / "out").write_text("before")

    code, _, err, _ = ordered(lambda *_: (0, {"out": bytes(2 << 20)}), argv=("x",), outputs=("out",))

    assert code == Exit.IO
    assert "meshd: ./out: File too large" in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "b", "c", "out"]
    assert (tmp_path / "out").read_text() == "before"


def test_a_file_that_is_written_over_keeps_its_mode_and_links_to_it_stay(ordered, tmp_path):
    (tmp_path / "real").write_text("before")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "out").symlink_to("real")

    code, *_ = ordered(lambda *_: (0, {"out": b"after"}), argv=("x",), outputs=("out",))

    assert code == 0
    assert (tmp_path / "out").is_symlink()
    assert (tmp_path / "real").read_text() == "after"
    assert stat.S_IMODE((tmp_path / "real").stat().st_mode) == 0o640


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ({"a": (0, {}), "b": (0, {})}, 0),
        ({"a": (0, {}), "b": (2, {})}, 123),
        ({"a": (1, {}), "b": UnitFailed("lost")}, 125),
        ({"a": (1, {}), "b": UnitTimedOut("it ran for longer than its 1 s")}, 124),
        ({"a": (0, {}), "b": CancelledError()}, 125),
        ({"a": OutputMissing("no file"), "b": (0, {})}, 125),
        ({"a": ProgramNotFound("none"), "b": (2, {})}, 127),
    ],
)
def test_the_exit_code_of_many_is_that_of_xargs(ordered, outcomes, code):
    found, out, err, _ = ordered(lambda _, path: outcomes[path], argv=("x",), each=tuple(outcomes))

    assert found == code
    assert out.count("\n") == sum(isinstance(outcome, tuple) for outcome in outcomes.values())
    assert all(f"meshd: {path}: " in err for path, outcome in outcomes.items() if outcome != (0, {}))


def test_a_time_out_names_the_command_and_ends_as_timeout_does(ordered):
    code, _, err, _ = ordered(lambda *_: UnitTimedOut("it ran for longer than its 1 s"), argv=("sleep", "2 0"))

    assert code == 124
    assert err.startswith("meshd: sleep '2 0': it ran for longer than its 1 s")


def test_variables_have_values(ordered):
    assert ordered(lambda *_: (0, {}), argv=("x",), env=("A=1=2",))[0] == 0
    with pytest.raises(ValueError, match="--env A=VALUE"):
        ordered(lambda *_: (0, {}), argv=("x",), env=("A",))


class WaitingJob:
    """A job of which the daemon says what it is given."""

    def __init__(self):
        self.told = {"id": "abc", "waiting": 1, "running": 0, "why": ["counts"]}
        self.lost = None

    def because(self, *reasons, running=0):
        self.told = {**self.told, "running": running, "why": ["counts", *reasons]}

    def progress(self):
        if self.lost:
            raise self.lost
        return [self.told]


@pytest.fixture
def waiting():
    """A job that waits, and what is said of it, once for each look."""
    job, err = WaitingJob(), Stream()
    patience = Patience(Output(Stream(), err), job)

    def look():
        before = len(err.text())
        patience.explain()
        return err.text()[before:]

    return job, look


def test_what_waits_says_why_and_again_only_when_that_changes(waiting):
    job, look = waiting
    job.because("1a2b can not run it: needs 64 cpus, it has 2")
    assert look() == "meshd: it waits: 1a2b can not run it: needs 64 cpus, it has 2\n"
    assert look() == ""

    job.because("1a2b refused this job and is asked again in 2.1 s: it is full")
    assert "it is full" in look()
    job.because("1a2b refused this job and is asked again in 0.4 s: it is full")
    assert look() == ""

    job.because(*(f"{node} can not run it" for node in range(9)))
    assert look().endswith("meshd: and for 5 reasons more: see `meshd job abc`\n")


def test_what_runs_for_long_is_no_reason_to_speak(waiting):
    job, look = waiting
    job.because("all credits are used", running=1)

    assert look() == ""


def test_a_daemon_that_does_not_answer_is_a_reason_too(waiting):
    job, look = waiting
    job.lost = MeshUnavailable("the daemon did not answer")

    assert look() == "meshd: it waits: the daemon did not answer\n"


def test_no_more_bytes_are_submitted_than_may_wait(ordered, monkeypatch):
    """Else submitting would block, where nobody says what it waits for."""
    monkeypatch.setattr("meshd_node.cli.run.PATIENCE_S", 0.001)
    monkeypatch.setattr("meshd_node.cli.run._BYTES_UNDER_WAY_MAX", 10)
    late = []
    monkeypatch.setattr(FakeMesh, "submit_program", lambda *_: late.append(Future()) or late[-1])

    def progress(_):
        """Called when nothing comes: at most the one call of more than 10 bytes is under way."""
        assert sum(not future.done() for future in late) == 1
        late[-1].set_result(CommandResult(("x",), 0, b"", b"", {}))
        return []

    monkeypatch.setattr(FakeMesh, "progress", progress, raising=False)

    assert ordered(None, argv=("x",), each=("a", "b", "c"))[0] == 0
    assert len(late) == 3


def test_nothing_done_for_a_while_is_looked_into(ordered, monkeypatch):
    """The run asks by itself, and goes on to wait."""
    monkeypatch.setattr("meshd_node.cli.run.PATIENCE_S", 0.001)
    late = Future()
    monkeypatch.setattr(FakeMesh, "submit_program", lambda *_: late)

    def progress(_):
        if not late.done():
            late.set_result(CommandResult(("x",), 0, b"", b"", {}))
        return [{"id": "abc", "waiting": 1, "running": 0, "why": ["counts", "needs 64 cpus, it has 2"]}]

    monkeypatch.setattr(FakeMesh, "progress", progress, raising=False)
    code, _, err, _ = ordered(None, argv=("x",))

    assert (code, err) == (0, "meshd: it waits: needs 64 cpus, it has 2\n")
