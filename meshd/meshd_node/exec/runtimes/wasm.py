"""WebAssembly: a module in an instance of its own for each call, with fuel, bounded memory and no world around it.

The same bytes give the same result on every node: canonical NaN, no clock, no randomness, no threads. A module is
compiled here, from what the submitter signed: machine code is never taken from anybody. Spec: 15-runtimes.md.
"""

import resource
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import wasmtime
from blake3 import blake3
from wasmtime import (
    Caller,
    Func,
    FuncType,
    Instance,
    InstancePre,
    Linker,
    Module,
    Store,
    Trap,
    TrapCode,
    ValType,
    WasmtimeError,
)

from meshd_node.exec.runtimes.outputs import Budget
from meshd_node.exec.runtimes.wasi import FUNCTIONS, Exited, System
from meshd_node.exec.runtimes.wasm_files import WasiError
from meshd_node.exec.worker import Run, serve
from meshd_protocol.programs import (
    CommandCall,
    Ended,
    OutOfFuel,
    ProgramFailed,
    WasmCall,
    WasmProgram,
    WasmTrap,
    decode_wasm_payload,
)
from meshd_protocol.records import decode_record
from meshd_protocol.wanted import Wanted

# Compiled modules that one worker keeps; a module takes about ten times its bytes.
_MODULES_KEPT: Final = 16
_WASI: Final = "wasi_snapshot_preview1"
_START: Final = "_start"
_INITIALIZE: Final = "_initialize"
_TABLE_ELEMENTS_MAX: Final = 1 << 20
# Where the address space is bounded, wasmtime must not reserve 4 GiB for each memory.
_GROWTH_BYTES: Final = 1 << 20
_BITS: Final = {"i32": 32, "i64": 64}
_FLOATS: Final = frozenset({"f32", "f64"})


class WasmRuntime:
    """Compiles modules, each once, and runs them."""

    def __init__(self) -> None:
        self._engine = wasmtime.Engine(_config())
        self._linker = Linker(self._engine)
        self._modules: OrderedDict[bytes, InstancePre] = OrderedDict()
        # What the instance that runs sees: one at a time does, so that the linker is made once.
        self._system = System(CommandCall(), Budget())
        self._link()

    def load(self, data: bytes) -> Run:
        """Read a program and compile its module; its calls are read as they come."""
        program = decode_record(WasmProgram, data)
        module = self._compiled(program.module)

        def run(payload: bytes) -> object:
            call = decode_wasm_payload(payload)
            if isinstance(call, WasmCall):
                return self._results(program, module, call)
            return self._run(program, module, CommandCall.of(program, call)).as_value()

        return run

    # --- modules --------------------------------------------------------------------------------------------------

    def _compiled(self, module: bytes) -> InstancePre:
        digest = blake3(module).digest()
        ready = self._modules.pop(digest, None)
        if ready is None:
            try:
                ready = self._linker.instantiate_pre(Module(self._engine, module))
            except WasmtimeError as error:
                raise ProgramFailed(f"the module can not be used: {_first_lines(error)}") from error
            if len(self._modules) >= _MODULES_KEPT:
                self._modules.popitem(last=False)
        self._modules[digest] = ready
        return ready

    def _link(self) -> None:
        types = {"i": ValType.i32(), "I": ValType.i64()}
        for name, parameters in FUNCTIONS.items():
            returned = [] if name == "proc_exit" else [ValType.i32()]
            kind = FuncType([types[each] for each in parameters], returned)
            self._linker.define_func(_WASI, name, kind, self._answering(name, bool(returned)), access_caller=True)

    def _answering(self, name: str, returns: bool) -> Callable[..., int | None]:
        def answer(caller: Caller, *arguments: int) -> int | None:
            number = self._system.answer(name, caller, arguments)
            return number if returns else None

        return answer

    # --- calls ----------------------------------------------------------------------------------------------------

    def _run(self, program: WasmProgram, module: InstancePre, call: CommandCall) -> Ended:
        """Run a module as a command."""
        wanted, budget = Wanted(call.outputs), Budget()
        exit_code = 0
        with _told():
            self._system = system = _system(call, budget)
            store = self._store(program)
            try:
                _function(module.instantiate(store), store, _START)(store)
            except Exited as end:
                exit_code = end.code
        files = {path: file.data for path, file in system.files.regular_files() if wanted.means(path)}
        wanted.require(files, exit_code)
        for path, data in files.items():
            budget.take(len(path.encode()) + len(data), f"the output {path!r} of {len(data)} bytes")
        found = {path: bytes(data) for path, data in files.items()}
        return Ended(exit_code, bytes(system.stdout.said), bytes(system.stderr.said), found)

    def _results(self, program: WasmProgram, module: InstancePre, call: WasmCall) -> list[object]:
        """Call one function of the module some times, each time as if it were the first."""
        given = CommandCall.of(program, CommandCall())
        imports = bool(module.module.imports)
        parameters: list[str] | None = None
        results: list[object] = []
        with _told():
            for arguments in call.calls:
                if imports or not results:
                    self._system = _system(given, Budget())
                store = self._store(program)
                instance = module.instantiate(store)
                if instance.exports(store).get(_INITIALIZE) is not None:
                    _function(instance, store, _INITIALIZE)(store)
                function = _function(instance, store, call.function)
                if parameters is None:  # asked once, since it costs as much as a call
                    parameters = _parameters(call.function, function.type(store))
                results.append(function(store, *_fitting(call.function, parameters, arguments)))
        return results

    def _store(self, program: WasmProgram) -> Store:
        store = Store(self._engine)
        store.set_limits(memory_size=program.memory_bytes, table_elements=_TABLE_ELEMENTS_MAX)
        store.set_fuel(program.fuel)
        return store


def main(sock: int, progress: int) -> None:
    """Serve as a worker whose units are calls of WebAssembly modules."""
    serve(sock, progress, WasmRuntime().load)


def _config() -> wasmtime.Config:
    config = wasmtime.Config()
    config.consume_fuel = True
    config.cranelift_nan_canonicalization = True
    config.wasm_threads = False
    config.wasm_relaxed_simd = False
    config.parallel_compilation = False  # a slot is one CPU
    if resource.getrlimit(resource.RLIMIT_AS)[0] != resource.RLIM_INFINITY:
        config.memory_reservation = 0
        config.memory_guard_size = 0
        config.memory_reservation_for_growth = _GROWTH_BYTES
    return config


def _system(call: CommandCall, budget: Budget) -> System:
    try:
        return System(call, budget)
    except WasiError as error:
        raise ProgramFailed("the inputs of a unit are more than a module may have as files") from error


def _function(instance: Instance, store: Store, name: str) -> Func:
    found = instance.exports(store).get(name)
    if not isinstance(found, Func):
        raise ProgramFailed(f"the module exports no function {name!r}" + _what_to_do(instance, store, name))
    return found


def _what_to_do(instance: Instance, store: Store, name: str) -> str:
    if name == _START:
        return ": to be run as a command it must be built as one, not as a library"
    names = [key for key, each in instance.exports(store).items() if isinstance(each, Func)]
    return f", but {', '.join(map(repr, names[:10]))}" if names else ""


def _parameters(name: str, kind: FuncType) -> list[str]:
    """The types of what a function takes; raise `ProgramFailed` if it takes or returns other things than numbers."""
    parameters = [str(parameter) for parameter in kind.params]
    if not {*parameters, *map(str, kind.results)} <= {*_BITS, *_FLOATS}:
        raise ProgramFailed(f"{name!r} takes or returns something else than numbers")
    return parameters


def _fitting(name: str, parameters: list[str], arguments: tuple[int | float, ...]) -> Iterator[int | float]:
    """The arguments as the function takes them; raise `ProgramFailed` if it does not."""
    if len(parameters) != len(arguments):
        raise ProgramFailed(f"{name!r} takes {len(parameters)} numbers, not {len(arguments)}")
    for place, (parameter, argument) in enumerate(zip(parameters, arguments, strict=True), 1):
        yield _number(f"argument {place} of {name!r}", parameter, argument)


def _number(what: str, parameter: str, argument: int | float) -> int | float:
    if parameter in _FLOATS:
        return float(argument)
    if not isinstance(argument, int):
        raise ProgramFailed(f"{what} is a whole number ({parameter}), not {argument!r}")
    bits = _BITS[parameter]
    if not -(1 << bits - 1) <= argument < 1 << bits:
        raise ProgramFailed(f"{what} has {bits} bits, and {argument} does not fit")
    return argument - (1 << bits) if argument >> bits - 1 == 1 else argument


@contextmanager
def _told() -> Iterator[None]:
    """What goes wrong in a module, in words that are the same on every node."""
    try:
        yield
    except Trap as trap:
        if trap.trap_code is TrapCode.OUT_OF_FUEL:
            raise OutOfFuel("the module used up its fuel: give it more, or less to do") from trap
        reason = "unknown" if trap.trap_code is None else trap.trap_code.name.lower().replace("_", " ")
        raise WasmTrap(f"the module was stopped: {reason}") from trap
    except WasmtimeError as error:
        raise ProgramFailed(f"the module can not be run: {_first_lines(error)}") from error


def _first_lines(error: WasmtimeError) -> str:
    return " ".join(str(error).split())[:300]
