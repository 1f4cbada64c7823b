"""What this node runs beside Python."""

from functools import cache
from importlib.util import find_spec

from meshd_protocol.records import Runtime


@cache
def runtimes() -> tuple[Runtime, ...]:
    """Python and commands always; WebAssembly where its engine is installed, which is not built for every machine."""
    wasm = (Runtime.WASM,) if find_spec("wasmtime") else ()
    return (Runtime.PYTHON, Runtime.COMMAND, *wasm)
