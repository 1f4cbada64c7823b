"""Commands: what they are given, what they leave, and what is left of them."""

import os
import signal

import pytest

from meshd_protocol.errors import MalformedMessage
from meshd_protocol.limits import PROGRAM_OUTPUT_BYTES_MAX
from meshd_protocol.programs import (
    CommandCall,
    CommandProgram,
    File,
    OutputMissing,
    OutputTooLarge,
    ProgramFailed,
    ProgramNotFound,
)


def sh(script: str) -> tuple[str, str, str]:
    return ("/bin/sh", "-c", script)


def test_a_program_says_something_and_ends_well(commands):
    ended = commands.command("echo", "a b", "*")

    assert (ended.exit_code, ended.stdout, ended.stderr, ended.files) == (0, b"a b *\n", b"", {})


def test_a_nonzero_exit_code_is_a_result(commands):
    ended = commands.command(*sh("echo no >&2; exit 7"))

    assert (ended.exit_code, ended.stderr) == (7, b"no\n")


def test_a_program_that_a_signal_ended_has_its_number(commands):
    assert commands.command(*sh("kill -SEGV $$")).exit_code == -signal.SIGSEGV


def test_standard_input_arrives_and_ends(commands):
    data = bytes(range(256)) * 4_096

    assert commands.command("cat", stdin=data).stdout == data


def test_without_standard_input_a_reader_sees_its_end(commands):
    assert commands.command("cat").stdout == b""


def test_inputs_lie_in_a_fresh_folder_and_outputs_come_back(commands):
    ended = commands.command(
        *sh("ls -R; ./tool < in/a > out.txt; mkdir -p deep/er; echo 1 > deep/er/x.log"),
        inputs=(File("in/a", b"abc"), File("tool", b"#!/bin/sh\nexec tr a-z A-Z\n", True)),
        outputs=("out.txt", "**/*.log"),
    )

    assert ended.stdout == b".:\nin\ntool\n\n./in:\na\n"
    assert ended.files == {"deep/er/x.log": b"1\n", "out.txt": b"ABC"}


def test_what_the_program_has_goes_before_what_the_call_has(commands):
    program = CommandProgram(("echo", "-n"), (("A", "1"), ("B", "2")), (File("shared", b"s"),), ("shared",))
    ended = commands.command(
        "x", program=program, environment=(("B", "3"),), inputs=(File("own", b"o"),), outputs=("own",)
    )

    assert ended.stdout == b"x"
    assert ended.files == {"own": b"o", "shared": b"s"}
    ended = commands.command(
        program=CommandProgram(sh('echo "$A$B"'), (("A", "1"), ("B", "2"))), environment=(("B", "3"),)
    )
    assert ended.stdout == b"13\n"


def test_nothing_of_one_run_is_there_in_the_next(commands):
    commands.command(*sh('echo x > left; echo x > "$HOME/left"; mkdir -m 0 locked'))
    ended = commands.command(*sh('ls -A . "$HOME" "$TMPDIR"'))

    assert b"left" not in ended.stdout
    assert b"locked" not in ended.stdout
    assert sorted(os.listdir(commands.scratch)) == []


def test_a_folder_nested_beyond_any_path_is_removed(commands):
    commands.command(*sh("i=0; while [ $i -lt 1500 ]; do mkdir d; cd d; i=$((i+1)); done"))

    assert os.listdir(commands.scratch) == []


def test_the_environment_is_the_workers_and_what_was_given(commands):
    ended = commands.command("env", environment=(("GIVEN", "yes"),))
    names = {line.partition(b"=")[0] for line in ended.stdout.splitlines()}

    assert names == {b"PATH", b"LANG", b"LC_CTYPE", b"HOME", b"TMPDIR", b"PWD", b"GIVEN"} - ({b"LC_CTYPE"} - names)


def test_a_program_inherits_no_descriptor_of_the_worker(commands):
    ended = commands.command(*sh("ls /proc/self/fd | wc -l"))

    assert int(ended.stdout) == 4  # three streams, and the folder that ls lists


def test_a_link_out_of_the_folder_is_not_followed(commands, tmp_path):
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    ended = commands.command(
        *sh(f"ln -s {secret} a.txt; ln -s {tmp_path} there; mkdir d; ln -s {secret} d/b.txt; ln {secret} hard; exit 1"),
        outputs=("a.txt", "there/secret", "**/*.txt", "**"),
    )

    assert set(ended.files) <= {"hard"}


def test_pipes_and_devices_are_no_outputs(commands):
    ended = commands.command(*sh("mkfifo pipe; ln -s /dev/zero zero; exit 1"), outputs=("pipe", "zero", "*"))

    assert ended.files == {}


def test_an_output_that_was_named_and_not_written_is_an_error_if_all_went_well(commands):
    with pytest.raises(OutputMissing, match="no regular file 'out'"):
        commands.command("true", outputs=("out", "*.log"))
    assert commands.command("false", outputs=("out",)).files == {}


def test_a_stream_without_end_is_ended(commands):
    with pytest.raises(OutputTooLarge, match="standard output"):
        commands.command("yes")


def test_an_output_that_is_too_large_is_not_read(commands):
    with pytest.raises(OutputTooLarge, match="'big'"):
        commands.command("truncate", "-s", str(PROGRAM_OUTPUT_BYTES_MAX), "big", outputs=("*",))


def test_the_largest_output_comes_back(commands):
    size = PROGRAM_OUTPUT_BYTES_MAX - len("big")
    ended = commands.command("truncate", "-s", str(size), "big", outputs=("big",))

    assert len(ended.files["big"]) == size


def test_what_a_program_leaves_in_the_background_ends_with_it(commands, tmp_path):
    marker = tmp_path / "alive"
    ended = commands.command(*sh(f"setsid sh -c 'echo $$ > {marker}; exec sleep 600' & sleep 0.2; echo done"))

    assert ended.stdout == b"done\n"
    assert not os.path.exists(f"/proc/{int(marker.read_text())}")


def test_a_program_that_closes_its_streams_is_waited_for(commands):
    ended = commands.command(*sh("exec >&- 2>&-; sleep 0.1; : > made"), outputs=("made",))

    assert ended.files == {"made": b""}


def test_a_program_that_is_not_there_says_what_to_do(commands):
    with pytest.raises(ProgramNotFound, match="install it on the nodes, or send it along"):
        commands.command("no-such-program-here")


def test_a_file_that_is_no_program_says_so(commands):
    with pytest.raises(ProgramNotFound, match="may not be run"):
        commands.command("./data", inputs=(File("data", b"x"),))
    with pytest.raises(ProgramNotFound, match="can not be run"):
        commands.command("./data", inputs=(File("data", b"\0\1\2", True),))


def test_a_command_without_arguments_is_refused(commands):
    with pytest.raises(ProgramFailed, match="first argument"):
        commands.command()


def test_two_inputs_of_one_name_are_refused(commands):
    with pytest.raises(MalformedMessage, match="two files"):
        commands.command("true", program=CommandProgram(inputs=(File("a", b""),)), inputs=(File("a", b""),))


def test_bytes_that_are_no_program_blame_their_sender(commands):
    with pytest.raises(MalformedMessage, match="commandprogram"):
        commands.run(b"\x01", CommandCall(("true",)))
    with pytest.raises(MalformedMessage, match="commandcall"):
        commands.run(CommandProgram(), b"\x80")


def test_a_unit_that_waits_behind_a_long_one_is_handed_back(commands):
    results = commands.results(CommandProgram(), CommandCall(("sleep", "0.3")), CommandCall(("true",)))

    assert [result.status.name for result in results] == ["RETURNED", "HANDED_BACK"]


def test_nothing_of_a_command_outlives_the_worker(start_worker, tmp_path):
    worker = start_worker("command")
    worker.command(*sh("(setsid sleep 600 &) ; true"))

    assert worker.hang_up() == 0
