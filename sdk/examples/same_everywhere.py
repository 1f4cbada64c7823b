"""Call a function of a WebAssembly module on many numbers; it gives the same on every machine, to the bit."""

import wasmtime

from meshd_sdk import Mesh

# Modules usually come from a compiler (`clang --target=wasm32-wasi`, `cargo build --target wasm32-wasip1`).
COLLATZ = wasmtime.wat2wasm("""
(module (func (export "collatz") (param $number i64) (result i32) (local $steps i32)
  (block $done (loop $again
    (br_if $done (i64.le_s (local.get $number) (i64.const 1)))
    (local.set $number (select
      (i64.add (i64.mul (local.get $number) (i64.const 3)) (i64.const 1))
      (i64.shr_u (local.get $number) (i64.const 1))
      (i32.wrap_i64 (i64.and (local.get $number) (i64.const 1)))))
    (local.set $steps (i32.add (local.get $steps) (i32.const 1)))
    (br $again)))
  (local.get $steps)))
""")


def main(below: int = 20_000) -> None:
    with Mesh() as mesh:
        steps = list(mesh.wasm(COLLATZ).map("collatz", range(1, below)))
    longest = steps.index(max(steps)) + 1
    print(f"{longest:,} takes {max(steps)} steps to 1, more than any other number below {below:,}")


if __name__ == "__main__":
    main()
