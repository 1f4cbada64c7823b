"""The same integer loops in C and in WebAssembly's text format, to be run by gcc's code and by a worker's runtime.

Both begin with fresh memory at each call, as an instance of a module does.
"""

import ctypes
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Final

import wasmtime

from meshd_node.exec.runtimes.wasm import WasmRuntime
from meshd_protocol.programs import WasmCall, WasmProgram
from meshd_protocol.records import encode_record

# How large each is: some ms of C.
SIZES: Final = {"sieve": 1_000_000, "collatz": 30_000, "lottery": 1_000_000}

_C: Final = """
#include <stdlib.h>
int sieve(int n) {
    int count = 0;
    unsigned char *marks = calloc(n, 1);
    for (int i = 2; i < n; i++) {
        if (marks[i]) continue;
        count++;
        for (int j = i + i; j < n; j += i) marks[j] = 1;
    }
    free(marks);
    return count;
}
int collatz(int n) {
    int longest = 0;
    for (int start = 1; start < n; start++) {
        unsigned long long x = start;
        int steps = 0;
        while (x != 1) {
            if (x & 1) x = 3 * x + 1; else x >>= 1;
            steps++;
        }
        if (steps > longest) longest = steps;
    }
    return longest;
}
int lottery(int n) {
    unsigned long long state = 42;
    int inside = 0;
    for (int i = 0; i < n; i++) {
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        unsigned int x = (unsigned int)(state >> 49);
        state = state * 6364136223846793005ULL + 1442695040888963407ULL;
        unsigned int y = (unsigned int)(state >> 49);
        if (x * x + y * y < 1073741824u) inside++;
    }
    return inside;
}
"""

LOOPS: Final = """(module
  (memory 17)
  (func (export "sieve") (param $n i32) (result i32) (local $i i32) (local $j i32) (local $count i32)
    (local.set $i (i32.const 2))
    (block $end (loop $next
      (br_if $end (i32.ge_s (local.get $i) (local.get $n)))
      (if (i32.eqz (i32.load8_u (local.get $i))) (then
        (local.set $count (i32.add (local.get $count) (i32.const 1)))
        (local.set $j (i32.add (local.get $i) (local.get $i)))
        (block $marked (loop $mark
          (br_if $marked (i32.ge_s (local.get $j) (local.get $n)))
          (i32.store8 (local.get $j) (i32.const 1))
          (local.set $j (i32.add (local.get $j) (local.get $i)))
          (br $mark)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
    (local.get $count))
  (func (export "collatz") (param $n i32) (result i32)
    (local $start i32) (local $x i64) (local $steps i32) (local $longest i32)
    (local.set $start (i32.const 1))
    (block $end (loop $next
      (br_if $end (i32.ge_s (local.get $start) (local.get $n)))
      (local.set $x (i64.extend_i32_s (local.get $start)))
      (local.set $steps (i32.const 0))
      (block $one (loop $step
        (br_if $one (i64.eq (local.get $x) (i64.const 1)))
        (if (i32.wrap_i64 (i64.and (local.get $x) (i64.const 1)))
          (then (local.set $x (i64.add (i64.mul (local.get $x) (i64.const 3)) (i64.const 1))))
          (else (local.set $x (i64.shr_u (local.get $x) (i64.const 1)))))
        (local.set $steps (i32.add (local.get $steps) (i32.const 1)))
        (br $step)))
      (if (i32.gt_s (local.get $steps) (local.get $longest)) (then (local.set $longest (local.get $steps))))
      (local.set $start (i32.add (local.get $start) (i32.const 1)))
      (br $next)))
    (local.get $longest))
  (func (export "lottery") (param $n i32) (result i32)
    (local $i i32) (local $state i64) (local $x i32) (local $y i32) (local $inside i32)
    (local.set $state (i64.const 42))
    (block $end (loop $next
      (br_if $end (i32.ge_s (local.get $i) (local.get $n)))
      (local.set $state (i64.add (i64.mul (local.get $state) (i64.const 6364136223846793005))
        (i64.const 1442695040888963407)))
      (local.set $x (i32.wrap_i64 (i64.shr_u (local.get $state) (i64.const 49))))
      (local.set $state (i64.add (i64.mul (local.get $state) (i64.const 6364136223846793005))
        (i64.const 1442695040888963407)))
      (local.set $y (i32.wrap_i64 (i64.shr_u (local.get $state) (i64.const 49))))
      (if (i32.lt_u (i32.add (i32.mul (local.get $x) (local.get $x)) (i32.mul (local.get $y) (local.get $y)))
            (i32.const 1073741824))
        (then (local.set $inside (i32.add (local.get $inside) (i32.const 1)))))
      (local.set $i (i32.add (local.get $i) (i32.const 1)))
      (br $next)))
    (local.get $inside))
)"""
ADD: Final = """(module
  (func (export "add") (param i32 i32) (result i32) (i32.add (local.get 0) (local.get 1))))"""


class Module:
    """A module as a worker runs it: with fuel, bounded memory and canonical NaN."""

    def __init__(self, text: str) -> None:
        program = WasmProgram(bytes(wasmtime.wat2wasm(text)), 2 << 20, 1 << 40)
        self._run = WasmRuntime().load(encode_record(program))

    def payload(self, function: str, *calls: tuple[int, ...]) -> bytes:
        """A unit that calls a function with each of these."""
        return encode_record(WasmCall(function, calls))

    def run(self, payload: bytes) -> object:
        """What a unit comes to."""
        return self._run(payload)


def compiled(folder: Path) -> dict[str, Callable[[int], int]] | None:
    """The loops in C, by `gcc -O2`; None where there is no gcc."""
    gcc = shutil.which("gcc")
    if gcc is None:
        return None
    source, library = folder / "loops.c", folder / "loops.so"
    source.write_text(_C)
    subprocess.run([gcc, "-O2", "-shared", "-fPIC", "-o", library, source], check=True)
    loaded = ctypes.CDLL(str(library))
    return {name: loaded[name] for name in SIZES}
