"""What a daemon may expect of a worker, whatever runtime it is."""

import pickle
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import wasmtime

from meshd_protocol import values
from meshd_protocol.calls import CallForm
from meshd_protocol.limits import PROGRAM_OUTPUT_BYTES_MAX, UNIT_BYTES_MAX, WASM_PAGE_BYTES
from meshd_protocol.messages.attempts import AttemptStatus
from meshd_protocol.programs import CommandCall, CommandProgram, OutputTooLarge, WasmCall, WasmProgram
from meshd_protocol.records import encode_record

TOO_MUCH = str(PROGRAM_OUTPUT_BYTES_MAX + 1)
MODULE = wasmtime.wat2wasm("""(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (memory (export "memory") 1) (data (i32.const 0) "\\00\\00\\00\\00\\00\\00\\01\\00")
  (func (export "same") (param i32) (result i32) (local.get 0))
  (func (export "_start") (loop $again
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 1) (i32.const 8))) (br $again))))""")


@dataclass(frozen=True)
class Same:
    """A function that gives back a number, in one runtime, and how its results are read."""

    runtime: str
    function: bytes
    call: Callable[[int], bytes]
    read: Callable[[object], int]


def call_python(*arguments: object) -> bytes:
    return bytes([CallForm.CALL]) + pickle.dumps((arguments, {}))


SAME = [
    Same("python", pickle.dumps(int), call_python, lambda value: value),
    Same(
        "command",
        encode_record(CommandProgram(("echo",))),
        lambda number: encode_record(CommandCall((str(number),))),
        lambda value: int(value["stdout"]),
    ),
    Same(
        "wasm",
        encode_record(WasmProgram(MODULE, WASM_PAGE_BYTES, 1 << 40)),
        lambda number: encode_record(WasmCall("same", ((number,),))),
        lambda value: value[0],
    ),
]


@pytest.fixture(params=SAME, ids=lambda same: same.runtime)
def same(request):
    return request.param


@pytest.fixture
def worker(same, start_worker):
    return start_worker(same.runtime)


def test_units_are_answered_once_and_in_order(same, worker):
    """Those behind a long one are handed back, and are given again."""
    left, found = list(range(20)), []
    while left:
        results = worker.results(same.function, *map(same.call, left))
        found += [same.read(values.decode(each.value)) for each in results if each.status is AttemptStatus.RETURNED]
        assert [each.status for each in results] == sorted(each.status for each in results), (
            "what is handed back is last"
        )
        left = left[sum(each.status is AttemptStatus.RETURNED for each in results) :]

    assert found == list(range(20))


@pytest.mark.parametrize("damaged", [b"", b"\xc1", b"\x91" * 2_000, b"\x80", bytes(range(256))], ids=len)
def test_bytes_that_are_no_function_or_no_call_end_their_unit_and_not_the_worker(same, worker, damaged):
    (no_function,) = worker.results(damaged, same.call(1))
    (no_call,) = worker.results(same.function, damaged)

    assert no_function.status is no_call.status is AttemptStatus.RAISED
    assert same.read(worker.run(same.function, same.call(7))[0]) == 7


def test_a_worker_ends_when_its_daemon_hangs_up(same, worker):
    worker.run(same.function, same.call(1))

    assert worker.hang_up() == 0


def test_what_a_unit_took_is_told(same, worker):
    (result,) = worker.results(same.function, same.call(1))

    assert result.took_us > 0
    assert result.detail == ""


@pytest.mark.parametrize(
    ("runtime", "function", "payload", "error"),
    [
        ("python", pickle.dumps(bytes), call_python(UNIT_BYTES_MAX), Exception),
        ("command", CommandProgram(), CommandCall(("head", "-c", TOO_MUCH, "/dev/zero")), OutputTooLarge),
        ("wasm", WasmProgram(MODULE, WASM_PAGE_BYTES, 1 << 40), CommandCall(), OutputTooLarge),
    ],
)  # fmt: skip
def test_more_than_may_travel_is_an_error_with_a_remedy(start_worker, runtime, function, payload, error):
    with pytest.raises(error, match=r"write it to a file|compress it"):
        start_worker(runtime).run(function, payload)
