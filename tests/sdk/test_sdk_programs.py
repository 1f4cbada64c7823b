"""Commands and WebAssembly from a program's side: what is sent, and what comes of it."""

import os
import threading
from concurrent.futures import as_completed

import pytest
import wasmtime

from meshd_node.exec.runtimes.wasm import WasmRuntime
from meshd_protocol.errors import MalformedMessage
from meshd_protocol.messages.attempts import UnitStatus
from meshd_protocol.messages.local import DefineFunction, OpenJob, Outcome
from meshd_protocol.programs import CommandCall, CommandProgram, Ended, File, OutOfFuel, ProgramNotFound
from meshd_protocol.records import Runtime, decode_record
from meshd_protocol.values import encode, encode_exception
from meshd_protocol.wanted import Wanted
from meshd_sdk import CommandFailed, CommandResult, UnitFailed
from meshd_sdk.commands import read_result
from meshd_sdk.templates import fill, fill_command


def echo(call: CommandCall) -> object:
    """A node whose every program says its arguments, ends with as many as its code, and copies its inputs.

    Only copies that were asked for come back.
    """
    wanted = Wanted(call.outputs)
    if call.argv[0] == "missing":
        raise ProgramNotFound("this node has no program 'missing'")
    if call.argv[0] == "lie":
        return {"exit_code": 0, "stdout": b"", "stderr": b"", "files": {"../escape": b""}}
    said = " ".join(call.argv).encode()
    files = {f"{file.path}.out": file.data for file in call.inputs if wanted.means(f"{file.path}.out")}
    return Ended(len(call.argv) - 1, said, b"one\ntwo\n", files).as_value()


@pytest.fixture
def ran(daemon, monkeypatch):
    """Have the daemon run programs; the calls that it ran."""
    calls: list[CommandCall] = []
    lock = threading.Lock()
    wasm = WasmRuntime()

    def execute(index, function, payload):
        try:
            with lock:
                if b"\0asm" in function:
                    value = wasm.load(function)(payload)
                else:
                    call = CommandCall.of(decode_record(CommandProgram, function), decode_record(CommandCall, payload))
                    calls.append(call)
                    value = echo(call)
        except Exception as error:
            return Outcome(index, UnitStatus.RAISED, encode_exception(error), "")
        return Outcome(index, UnitStatus.RETURNED, encode(value))

    monkeypatch.setattr(daemon, "_execute", execute)
    return calls


# --- commands -----------------------------------------------------------------------------------------------------


def test_a_command_comes_back_as_a_result(mesh, ran, daemon):
    result = mesh.command(["a", "b", "c"]).result(10)

    assert result == CommandResult(("a", "b", "c"), 2, b"a b c", b"one\ntwo\n", {})
    assert result.text == "a b c"
    (opening,) = daemon.of_kind(OpenJob)
    assert (opening.needs.runtime, opening.needs.python) == (Runtime.COMMAND, "")


def test_a_file_that_nobody_asked_for_is_refused():
    """A lying node could otherwise write a .bashrc where the results are saved."""
    read = read_result(("true",), ("*.gz", "log"), check=False)
    ended = {"exit_code": 0, "stdout": b"", "stderr": b""}

    assert read({**ended, "files": {"a.gz": b"", "log": b""}}).files == {"a.gz": b"", "log": b""}
    with pytest.raises(MalformedMessage, match=r"\.bashrc.*none of the outputs"):
        read({**ended, "files": {"a.gz": b"", ".bashrc": b""}})


def test_a_file_whose_name_begins_with_a_dash_is_no_option():
    assert fill_command(["wc", "-c"], "-l") == ["wc", "-c", "./-l"]
    assert fill_command(["cp", "{}", "{.}.bak"], "-v.txt") == ["cp", "./-v.txt", "./-v.bak"]


def test_a_command_that_is_checked_fails_with_its_last_words(mesh, ran):
    assert mesh.command(["ok"], check=True).result(10).exit_code == 0
    with pytest.raises(CommandFailed, match=r"^bad ended with exit code 1: two$") as caught:
        mesh.command(["bad", "x"], check=True).result(10)
    assert (caught.value.exit_code, caught.value.stdout) == (1, b"bad x")
    with pytest.raises(CommandFailed):
        mesh.command(["bad", "x"]).result(10).check()


def test_inputs_are_paths_folders_names_or_bytes(mesh, ran, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "e" / "f").write_bytes(b"f")
    (tmp_path / "tool").write_bytes(b"t")
    (tmp_path / "tool").chmod(0o755)
    mesh.command(["x"], inputs=["d/e/f", tmp_path / "tool"]).result(10)
    mesh.command(["x"], inputs={"in": "tool", "raw": b"r", "all": "d"}).result(10)
    mesh.command(
        ["x"], inputs=["./d/../d"], shared=["tool"], stdin="ü", outputs=["*"], env={"B": "2", "A": "1"}
    ).result(10)

    assert ran[0].inputs == (File("d/e/f", b"f"), File("tool", b"t", True))
    assert ran[1].inputs == (File("in", b"t", True), File("raw", b"r"), File("all/e/f", b"f"))
    assert [file.path for file in ran[2].inputs] == ["tool", "d/e/f"]
    assert (ran[2].stdin, ran[2].outputs, ran[2].environment) == ("ü".encode(), ("*",), (("A", "1"), ("B", "2")))


def test_what_commands_share_travels_once(mesh, ran, daemon):
    files = {"shared": {"s": b"shared"}, "outputs": ["*"]}
    futures = [mesh.command(["x", str(n)], inputs={"n": b"%d" % n}, **files) for n in range(20)]
    for future in as_completed(futures, 10):
        assert future.result().files["s.out"] == b"shared"

    assert len(daemon.of_kind(DefineFunction)) == 1


def test_a_command_is_run_for_each_file(mesh, ran, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("b.txt", "a.txt"):
        (tmp_path / name).write_text(name)
    results = list(mesh.commands(["gz", "{}", "{/.}"], ["b.txt", tmp_path / "a.txt"], outputs=["{}.out"]))

    assert [result.text for result in results] == ["gz b.txt b", "gz a.txt a"]
    assert [result.files for result in results] == [{"b.txt.out": b"b.txt"}, {"a.txt.out": b"a.txt"}]
    assert {call.outputs for call in ran} == {("a.txt.out",), ("b.txt.out",)}


def test_one_failed_command_of_many_is_raised_in_its_place(mesh, ran, tmp_path):
    (tmp_path / "a").touch()
    results = mesh.commands(["x"], [tmp_path / "a"] * 2, check=True)

    with pytest.raises(CommandFailed):
        next(results)


def test_files_are_saved_below_the_folder(mesh, ran, tmp_path):
    result = mesh.command(["x"], inputs={"d/e": b"1"}, outputs=["d/*"]).result(10)
    target = tmp_path / "out"

    assert result.save(target) == [os.path.join(target, "d/e.out")]
    assert (target / "d" / "e.out").read_bytes() == b"1"


def test_a_node_that_names_a_file_outside_of_the_folder_is_not_believed(mesh, ran):
    with pytest.raises(UnitFailed, match="something else than a program does"):
        mesh.command(["lie"]).result(10)


def test_an_error_of_the_node_arrives_as_its_type(mesh, ran):
    with pytest.raises(ProgramNotFound, match="no program 'missing'"):
        mesh.command(["missing"]).result(10)


@pytest.mark.parametrize(
    ("given", "error", "text"),
    [
        ({"argv": "ls -l"}, TypeError, r"\['ls', '-l'\]"),
        ({"argv": ["ls"], "inputs": "file"}, TypeError, r"write \['file'\]"),
        ({"argv": ["ls"], "outputs": "*.txt"}, TypeError, r"\['\*.txt'\]"),
        ({"argv": ["a\0b"]}, ValueError, "zero byte"),
        ({"argv": ["ls"], "outputs": ["/etc/passwd"]}, ValueError, "relative"),
        ({"argv": ["ls"], "inputs": {"../x": b""}}, ValueError, "relative"),
        ({"argv": ["ls"], "env": {"A=B": ""}}, ValueError, "letters, digits"),
        ({"argv": ["ls"], "inputs": ["/no/such/file"]}, FileNotFoundError, "/no/such/file"),
        ({"argv": ["ls"], "inputs": {"a": b"", "a/b": b""}}, ValueError, "can not be the folder"),
    ],
)
def test_what_can_be_no_command_is_refused_before_it_is_sent(mesh, given, error, text):
    with pytest.raises(error, match=text):
        mesh.command(**given)


def test_files_too_large_for_one_unit_are_refused_before_they_are_read(mesh, tmp_path):
    with open(tmp_path / "huge", "wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(ValueError, match="too large"):
        mesh.command(["x"], inputs=[tmp_path / "huge"])


@pytest.mark.parametrize(
    ("text", "filled"),
    [("{}", "d/a.tar.gz"), ("{.}", "d/a.tar"), ("{/}", "a.tar.gz"), ("{//}", "d"), ("{/.}", "a.tar"), ("{x}{", "{x}{")],
)
def test_placeholders_are_parts_of_the_path(text, filled):
    assert fill(text, "d/a.tar.gz") == filled


def test_a_command_without_placeholder_gets_the_path_last():
    assert fill_command(["wc", "-l"], "a") == ["wc", "-l", "a"]
    assert fill_command(["cp", "{}", "{}.bak"], "a") == ["cp", "a", "a.bak"]


# --- WebAssembly --------------------------------------------------------------------------------------------------

ADD = wasmtime.wat2wasm(
    '(module (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))'
    '(func (export "forever") (loop $l (br $l))) (func (export "_start")))'
)


def test_functions_of_a_module_are_called_and_mapped(mesh, ran, daemon):
    module = mesh.wasm(ADD, fuel=1_000_000)

    assert module.call("add", 2, 3).result(10) == 5
    assert list(module.map("add", range(100), range(100), chunksize=7)) == [2 * n for n in range(100)]
    with pytest.raises(OutOfFuel):
        module.call("forever").result(10)
    assert len(daemon.of_kind(DefineFunction)) == 1
    assert daemon.of_kind(OpenJob)[0].needs.runtime is Runtime.WASM


def test_a_module_is_run_as_a_command(mesh, ran, tmp_path):
    (tmp_path / "add.wasm").write_bytes(ADD)
    result = mesh.wasm(tmp_path / "add.wasm").run(["x"], check=True).result(10)

    assert result == CommandResult(("add.wasm", "x"), 0, b"", b"", {})


def test_what_is_no_module_is_refused_before_it_is_sent(mesh):
    with pytest.raises(ValueError, match="not a WebAssembly module"):
        mesh.wasm(b"(module)")
    with pytest.raises(ValueError, match="memory"):
        mesh.wasm(ADD, memory="lots")


def test_python_and_programs_of_one_executor_are_jobs_of_their_own(mesh, ran, daemon):
    mesh.command(["x"]).result(10)
    mesh.wasm(ADD).call("add", 1, 1).result(10)
    mesh.command(["y"]).result(10)

    assert [opening.needs.runtime for opening in daemon.of_kind(OpenJob)] == [Runtime.COMMAND, Runtime.WASM]
