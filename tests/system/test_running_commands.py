"""Commands and WebAssembly on real daemons: the submitter lends nothing, so all of it crosses the wire."""

import signal
import subprocess
import sys

import pytest
import wasmtime

from meshd_sdk import OutOfFuel, ProgramNotFound

MODULE = wasmtime.wat2wasm("""(module
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "\\40\\00\\00\\00\\20\\00\\00\\00")
  (func (export "_start") (drop (call $random (i32.const 64) (i32.const 32)))
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))))
  (func (export "square") (param f64) (result f64) (f64.mul (local.get 0) (local.get 0)))
  (func (export "forever") (loop $again (br $again))))""")


def test_a_command_ends_here_as_it_ended_there(standing):
    done = standing[0].cli("run", "--env", "A=b", "--", "sh", "-c", 'echo "$A"; echo no >&2; exit 7')

    assert (done.returncode, done.stdout, done.stderr) == (7, "b\n", "no\n")


def test_a_command_is_run_for_each_of_many_files(standing, tmp_path):
    files = [tmp_path / f"{number}.txt" for number in range(12)]
    for number, file in enumerate(files):
        file.write_text(f"{number}\n" * 100)
    done = standing[0].cli(
        *("run", "--in-order", "--each", *map(str, files), "--out", "{}.gz", "--to", str(tmp_path / "out")),
        *("--", "sh", "-c", 'gzip -k "$0"; wc -l < "$0"'),
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.split() == ["100"] * 12
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == sorted(f"{file.name}.gz" for file in files)


def test_some_that_fail_do_not_stop_the_others(standing, tmp_path):
    files = [tmp_path / name for name in ("good", "bad")]
    for file in files:
        file.write_text(file.name)
    done = standing[0].cli("run", "--each", *map(str, files), "--", "grep", "good")

    assert (done.returncode, done.stdout) == (123, "good\n")
    assert done.stderr == "meshd: bad: exit code 1\n"


def test_a_program_that_no_node_has_is_one_line(standing):
    done = standing[0].cli("run", "no-such-program")

    assert done.returncode == 127
    assert "install it on the nodes" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (("--cpus", "640"), "needs 640"),
        (("--memory", "900TiB"), "memory"),
        (("--replicas", "4"), "needs 3 distinct voters, and there are 2"),
    ],
)
def test_what_fits_no_node_says_why_and_is_cancelled_by_an_interrupt(standing, tmp_path, asked, reason):
    """It said nothing, and `meshd jobs` told of a job that was done."""
    files = [tmp_path / name for name in ("a", "b")]
    for file in files:
        file.touch()
    words = ["run", *asked, "--name", reason, "--each", *map(str, files), "--", "true"]
    with subprocess.Popen(
        [sys.executable, "-m", "meshd_node", *words],
        env=standing[0].environment,
        stderr=subprocess.PIPE,
        text=True,
    ) as waiting:
        assert waiting.stderr is not None
        said = waiting.stderr.readline()
        while reason not in said:
            assert said.startswith("meshd: it waits: ")
            said = waiting.stderr.readline()
        waiting.send_signal(signal.SIGINT)
        assert waiting.wait(30) == 130

    with standing[0].mesh() as mesh:
        assert [job["state"] for job in mesh.jobs() if job["name"] == reason] == ["cancelled"]


def test_a_command_that_takes_too_long_ends_once_as_timeout_does(standing):
    done = standing[0].cli("run", "--timeout", "1", "--", "sleep", "20")

    assert (done.returncode, done.stdout) == (124, "")
    assert "sleep 20: it ran for longer than its 1 s" in done.stderr


def test_copies_of_a_command_agree(standing):
    with standing[0].mesh() as mesh:
        twice = mesh.options(replicas=2)
        result = twice.command(["sort", "-n"], stdin="3\n1\n2\n", check=True).result(30)
        with pytest.raises(ProgramNotFound):
            twice.command(["no-such-program"]).result(30)

    assert result.text == "1\n2\n3\n"


def test_a_module_gives_the_same_on_every_node(standing):
    with standing[0].mesh() as mesh:
        module = mesh.options(replicas=2).wasm(MODULE, fuel=1_000_000)
        run = module.run(check=True).result(30)
        squares = list(module.map("square", range(50), chunksize=10))
        with pytest.raises(OutOfFuel):
            module.call("forever").result(30)

    assert len(run.stdout) == 32
    assert squares == [float(n * n) for n in range(50)]
