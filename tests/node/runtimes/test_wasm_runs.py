"""WebAssembly: numbers in and out, modules as commands, and a world in which nothing differs from node to node."""

import struct

import pytest
import wasmtime

from meshd_protocol.errors import MalformedMessage
from meshd_protocol.limits import WASM_PAGE_BYTES
from meshd_protocol.programs import (
    CommandCall,
    Ended,
    File,
    OutOfFuel,
    OutputMissing,
    OutputTooLarge,
    ProgramFailed,
    WasmCall,
    WasmProgram,
    WasmTrap,
)
from meshd_protocol.values import encode

FUEL = 10**8
NUMBERS = """(module
  (memory (export "memory") 1)
  (global $calls (mut i32) (i32.const 0))
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1)))
  (func (export "wide") (param i64) (result i64) (local.get 0))
  (func (export "half") (param f64) (result f64) (f64.div (local.get 0) (f64.const 2)))
  (func (export "root") (param f32) (result f32) (f32.sqrt (local.get 0)))
  (func (export "both") (param i32) (result i32 f64) (local.get 0) (f64.convert_i32_s (local.get 0)))
  (func (export "nothing"))
  (func (export "count") (result i32)
    (global.set $calls (i32.add (global.get $calls) (i32.const 1))) (global.get $calls))
  (func (export "divide") (param i32 i32) (result i32) (i32.div_s (local.get 0) (local.get 1)))
  (func (export "nan_bits") (param f64) (result i64) (i64.reinterpret_f64 (f64.sub (local.get 0) (local.get 0))))
  (func (export "grow") (param i32) (result i32) (memory.grow (local.get 0)))
  (func $deep (export "deep") (result i32) (i32.add (call $deep) (i32.const 1)))
  (func (export "far") (result i32) (i32.load (i32.const 0x7fffffff)))
  (func (export "forever") (loop $again (br $again)))
  (func (export "refers") (param externref))
)"""


def program(text: str, **settings: object) -> WasmProgram:
    return WasmProgram(wasmtime.wat2wasm(text), **{"memory_bytes": 16 * WASM_PAGE_BYTES, "fuel": FUEL, **settings})


def call(wasm, function: str, *arguments: float, **settings: object) -> object:
    ((result,),) = wasm.run(program(NUMBERS, **settings), WasmCall(function, (arguments,)))
    return result


# A command's text: `$read` fills the 4 KiB at 4096 from a descriptor and returns how much; `$write` writes from there.
WASI = """(module
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_readdir" (func $fd_readdir (param i32 i32 i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_filestat_get" (func $fd_filestat_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_open"
    (func $path_open (param i32 i32 i32 i32 i32 i64 i64 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_get" (func $environ_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "clock_time_get" (func $clock (param i32 i64 i32) (result i32)))
  (import "wasi_snapshot_preview1" "random_get" (func $random (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "sock_accept" (func $accept (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_symlink" (func $symlink (param i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_unlink_file" (func $unlink (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_create_directory" (func $mkdir (param i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "path_rename" (func $rename (param i32 i32 i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1)
  (func $read (param $fd i32) (result i32)
    (i32.store (i32.const 0) (i32.const 4096)) (i32.store (i32.const 4) (i32.const 4096))
    (drop (call $fd_read (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8))) (i32.load (i32.const 8)))
  (func $write_from (param $fd i32) (param $at i32) (param $count i32) (result i32)
    (i32.store (i32.const 0) (local.get $at)) (i32.store (i32.const 4) (local.get $count))
    (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
  (func $write (param $fd i32) (param $count i32)
    (drop (call $write_from (local.get $fd) (i32.const 4096) (local.get $count))))
  (func $open (param $at i32) (param $size i32) (param $how i32) (result i32)
    (if (result i32) (call $path_open (i32.const 3) (i32.const 0) (local.get $at) (local.get $size) (local.get $how)
        (i64.const -1) (i64.const -1) (i32.const 0) (i32.const 12))
      (then (i32.const -1)) (else (i32.load (i32.const 12)))))
  %s)"""


def command(wasm, body: str, data: bytes = b"", **given: object) -> Ended:
    """Run a module whose `_start` is `body`; `data` lies at 1024."""
    text = "".join(f"\\{byte:02x}" for byte in data)
    module = program(WASI % f'(data (i32.const 1024) "{text}") (func (export "_start") (local $n i32) {body})')
    (value,) = wasm.run(module, CommandCall(**given))
    return Ended.of_value(value)


# --- functions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "arguments", "result"),
    [
        ("add", (2, 3), 5),
        ("add", (0x7FFFFFFF, 1), -(1 << 31)),
        ("add", (0xFFFFFFFF, 0), -1),
        ("wide", (-(1 << 63),), -(1 << 63)),
        ("half", (5,), 2.5),
        ("root", (2.0,), struct.unpack("f", struct.pack("f", 2**0.5))[0]),
        ("both", (3,), [3, 3.0]),
        ("nothing", (), None),
    ],
)
def test_numbers_go_in_and_come_out(wasm, function, arguments, result):
    assert call(wasm, function, *arguments) == result


def test_each_call_begins_in_an_instance_of_its_own(wasm):
    assert wasm.run(program(NUMBERS), WasmCall("count", ((),) * 3), WasmCall("count", ((),))) == [[1, 1, 1], [1]]


def test_every_nan_is_the_same_nan(wasm):
    assert call(wasm, "nan_bits", float("inf")) == call(wasm, "nan_bits", float("nan")) == 0x7FF8 << 48
    assert encode(call(wasm, "half", float("nan"))).hex() == "cb7ff8000000000000"


@pytest.mark.parametrize(
    ("function", "arguments", "error", "text"),
    [
        ("divide", (1, 0), WasmTrap, "integer division by zero|integer divide by zero"),
        ("deep", (), WasmTrap, "stack overflow"),
        ("far", (), WasmTrap, "memory out of bounds"),
        ("forever", (), OutOfFuel, "used up its fuel"),
        ("missing", (), ProgramFailed, "exports no function 'missing', but 'add', 'wide'"),
        ("memory", (), ProgramFailed, "exports no function 'memory'"),
        ("add", (1,), ProgramFailed, "takes 2 numbers, not 1"),
        ("add", (1, 2.5), ProgramFailed, "argument 2 of 'add' is a whole number"),
        ("add", (1, 1 << 32), ProgramFailed, "does not fit"),
        ("refers", (1,), ProgramFailed, "something else than numbers"),
    ],
)
def test_what_goes_wrong_in_a_module_is_said(wasm, function, arguments, error, text):
    with pytest.raises(error, match=text) as caught:
        call(wasm, function, *arguments)
    assert type(caught.value) is error
    assert caught.value.__cause__ is None, "no traceback of the node's own"


def test_memory_grows_to_its_bound_and_not_beyond(wasm):
    assert call(wasm, "grow", 15) == 1
    assert call(wasm, "grow", 16) == -1
    assert call(wasm, "grow", 65_535) == -1


def test_a_module_that_begins_with_more_than_it_may_have_is_refused(wasm):
    with pytest.raises(ProgramFailed, match="memory minimum size of 17 pages exceeds"):
        wasm.run(program("(module (memory 17))"), WasmCall("f", ((),)))


def test_a_reactor_is_initialized_before_each_call(wasm):
    text = """(module (global $g (mut i32) (i32.const 0)) (func (export "_initialize") (global.set $g (i32.const 7)))
      (func (export "get") (result i32) (global.get $g)))"""

    assert wasm.run(program(text), WasmCall("get", ((), ()))) == [[7, 7]]


def test_import_that_no_node_has_is_named(wasm):
    with pytest.raises(ProgramFailed, match=r"env.*print"):
        wasm.run(program('(module (import "env" "print" (func)))'), WasmCall("f", ((),)))


def test_bytes_that_only_begin_like_a_module_are_refused(wasm):
    with pytest.raises(ProgramFailed, match="the module can not be used"):
        wasm.run(WasmProgram(b"\0asm\1\0\0\0\xff\xff", WASM_PAGE_BYTES, FUEL), WasmCall("f", ((),)))


def test_neither_text_nor_machine_code_is_taken_for_a_module(wasm):
    for data in (b"(module (func))", b"\x7fELF" + bytes(60), b"\0asm\x0d\0\1\0"):
        with pytest.raises(ValueError, match="WebAssembly"):
            WasmProgram(data, WASM_PAGE_BYTES, FUEL)
    with pytest.raises(MalformedMessage, match="wasmprogram"):
        wasm.run(b"\x97\xc4\x08(module)\xce\x00\x01\x00\x00\x01\x90\x90\x90\x90", WasmCall("f", ((),)))


def test_payload_that_is_no_call_blames_its_sender(wasm):
    with pytest.raises(MalformedMessage, match="not a call"):
        wasm.run(program(NUMBERS), b"\x93\x03\xa1f\x90")


def test_a_program_is_compiled_once_for_all_that_use_its_module(start_worker):
    """Two programs of one module differ in fuel; compiling again would cost each of a thousand units its time."""
    worker = start_worker(
        "wasm",
        "import wasmtime\nfrom meshd_node.exec.runtimes import wasm\nmade = []\nmodule = wasm.Module\n"
        "wasm.Module = lambda *given: made.append(1) or (module(*given) if len(made) == 1 else exit('compiled twice'))",
    )

    assert worker.run(program(NUMBERS, fuel=FUEL), WasmCall("add", ((1, 2),))) == [[3]]
    assert worker.run(program(NUMBERS, fuel=FUEL + 1), WasmCall("add", ((1, 2),))) == [[3]]


def test_modules_run_where_the_address_space_is_bounded(start_worker):
    worker = start_worker("wasm", "import resource\nresource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))")

    assert worker.run(program(NUMBERS), WasmCall("grow", ((15,), (16,)))) == [[1, -1]]


# --- commands -----------------------------------------------------------------------------------------------------


def test_a_module_reads_and_writes_its_streams(wasm):
    ended = command(
        wasm, "(call $write (i32.const 1) (call $read (i32.const 0))) (call $write (i32.const 2) (i32.const 2))",
        stdin=b"hello",
    )  # fmt: skip

    assert ended == Ended(0, b"hello", b"he", {})


def test_an_exit_code_is_a_result(wasm):
    assert command(wasm, "(call $exit (i32.const 3)) unreachable").exit_code == 3


def test_arguments_and_variables_arrive(wasm):
    ended = command(
        wasm,
        "(drop (call $args_get (i32.const 4096) (i32.const 4112)))"
        "(drop (call $environ_get (i32.const 4200) (i32.const 4128))) (call $write (i32.const 1) (i32.const 40))",
        argv=("prog", "a b"),
        environment=(("A", "1"), ("A", "2")),
    )

    assert ended.stdout[16:25] == b"prog\0a b\0"
    assert ended.stdout[32:36] == b"A=2\0"


def test_inputs_are_files_and_outputs_come_back(wasm):
    ended = command(
        wasm,
        "(local.set $n (call $read (call $open (i32.const 1024) (i32.const 4) (i32.const 0))))"
        "(call $write (call $open (i32.const 1028) (i32.const 3) (i32.const 9)) (local.get $n))",
        b"in/aout",
        inputs=(File("in/a", b"abc"),),
        outputs=("out", "in/*"),
    )

    assert ended.files == {"in/a": b"abc", "out": b"abc"}


@pytest.mark.parametrize("path", ["/etc/passwd", "../x", "in/../../x", "in/a/x", "", "x\0y", "nothing"])
def test_nothing_is_found_outside_of_the_declared_files(wasm, path):
    data = path.encode()
    ended = command(
        wasm,
        f"(call $exit (i32.eq (i32.const -1) (call $open (i32.const 1024) (i32.const {len(data)}) (i32.const 0))))",
        data,
        inputs=(File("in/a", b""),),
    )

    assert ended.exit_code == 1


def test_a_named_output_that_is_missing_is_an_error(wasm):
    with pytest.raises(OutputMissing, match="no regular file 'out'"):
        command(wasm, "", outputs=("out",))


def test_clock_and_randomness_and_listing_are_the_same_in_every_run(wasm, start_worker):
    body = """(drop (call $clock (i32.const 0) (i64.const 0) (i32.const 4096)))
      (drop (call $clock (i32.const 1) (i64.const 0) (i32.const 4104)))
      (drop (call $random (i32.const 4112) (i32.const 24)))
      (drop (call $fd_readdir (i32.const 3) (i32.const 4136) (i32.const 200) (i64.const 0) (i32.const 4400)))
      (drop (call $fd_filestat_get (i32.const 3) (i32.const 4336)))
      (call $write (i32.const 1) (i32.const 304))"""
    given = {"inputs": (File("b", b"x"), File("a", b"y"))}
    first = command(wasm, body, **given)

    assert struct.unpack("<QQ", first.stdout[:16]) == (1_000_000, 2_000_000)
    assert first.stdout[16:40] != bytes(24)
    assert first.stdout[240:304] == struct.pack("<QQB7xQQQQQ", 0, 1, 3, 1, 0, 0, 0, 0)
    assert command(wasm, body, **given) == first
    assert (
        Ended.of_value(
            start_worker("wasm").run(program(WASI % f'(func (export "_start") {body})'), CommandCall(**given))[0]
        )
        == first
    )


def test_sleep_takes_no_time_and_the_clock_has_moved(wasm):
    subscription = struct.pack("<QB7xI4xQQH6x", 5, 0, 1, 3_600 * 10**9, 0, 0)
    ended = command(
        wasm,
        "(drop (call $poll (i32.const 1024) (i32.const 4096) (i32.const 1) (i32.const 4140)))"
        "(drop (call $clock (i32.const 1) (i64.const 0) (i32.const 4128))) (call $write (i32.const 1) (i32.const 48))",
        subscription,
    )

    assert ended.stdout[:32] == struct.pack("<QHB5xQQ", 5, 0, 0, 0, 0)
    assert struct.unpack("<Q", ended.stdout[32:40])[0] == 3_600 * 10**9 + 10**6


@pytest.mark.parametrize(
    "body",
    [
        "(call $exit (call $write_from (i32.const 1) (i32.const 65530) (i32.const 7)))",
        "(call $exit (call $write_from (i32.const 1) (i32.const -1) (i32.const 1)))",
        "(call $exit (call $write_from (i32.const 1) (i32.const 0) (i32.const -1)))",
        "(call $exit (call $fd_write (i32.const 1) (i32.const -8) (i32.const 2) (i32.const 8)))",
        "(call $exit (call $fd_write (i32.const 1) (i32.const 0) (i32.const -1) (i32.const 8)))",
        "(call $exit (call $random (i32.const 0) (i32.const -1)))",
        "(call $exit (call $args_get (i32.const -4) (i32.const 65535)))",
        "(call $exit (call $poll (i32.const 0) (i32.const 0) (i32.const -1) (i32.const 0)))",
        "(call $exit (call $poll (i32.const 0) (i32.const 0) (i32.const 0) (i32.const 0)))",
        "(call $exit (call $fd_readdir (i32.const 3) (i32.const -9) (i32.const 99) (i64.const 0) (i32.const 0)))",
        "(call $exit (call $fd_readdir (i32.const 9) (i32.const 0) (i32.const 99) (i64.const 0) (i32.const 0)))",
        "(call $exit (call $accept (i32.const 3) (i32.const 0) (i32.const 0)))",
        "(call $exit (call $symlink (i32.const 0) (i32.const 1) (i32.const 3) (i32.const 0) (i32.const 1)))",
        "(call $exit (call $unlink (i32.const 3) (i32.const 0) (i32.const 999)))",
        "(call $exit (call $mkdir (i32.const 0) (i32.const 1024) (i32.const 1)))",
    ],
)  # fmt: skip
def test_what_a_module_asks_wrongly_is_an_error_number(wasm, body):
    ended = command(wasm, body, b"x", inputs=(File("a", b"x"),), argv=("prog",))

    assert 0 < ended.exit_code < 100


def test_a_stream_without_end_is_ended_before_it_is_kept(wasm):
    with pytest.raises((OutputTooLarge, OutOfFuel), match="standard output"):
        command(
            wasm, "(loop $again (drop (call $write_from (i32.const 1) (i32.const 0) (i32.const 65536))) (br $again))"
        )


def test_files_are_bounded_as_a_whole(wasm):
    """A hole of 4 GiB is as large as if it were full."""
    body = """(local.set $n (call $open (i32.const 1024) (i32.const 1) (i32.const 1)))
      (loop $again (br_if $again (i32.eqz (call $write_from (local.get $n) (i32.const 0) (i32.const 65536)))))
      (call $exit (call $write_from (local.get $n) (i32.const 0) (i32.const 65536)))"""

    assert command(wasm, body, b"x").exit_code == 51  # NOSPC


def test_a_folder_does_not_move_into_itself(wasm):
    ended = command(
        wasm,
        "(drop (call $mkdir (i32.const 3) (i32.const 1024) (i32.const 1)))"
        "(call $exit (call $rename (i32.const 3) (i32.const 1024) (i32.const 1) (i32.const 3)"
        "  (i32.const 1024) (i32.const 3)))",
        b"d/e",
    )

    assert ended.exit_code == 28  # INVAL


def test_a_library_is_not_run_as_a_command(wasm):
    with pytest.raises(ProgramFailed, match="'_start': to be run as a command it must be built as one"):
        wasm.run(program(NUMBERS), CommandCall())
