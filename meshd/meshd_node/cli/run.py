"""`meshd run -- COMMAND…`: a command on the mesh, or one for each of many files: streams, files and exit codes."""

import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final

import click

from meshd_node.cli.daemon import Unusable, in_words
from meshd_node.cli.exits import Exit
from meshd_node.cli.output import Output
from meshd_node.cli.patience import PATIENCE_S, Patience
from meshd_node.cli.runs import Order, Runs
from meshd_node.cli.spread import SpreadCommand
from meshd_node.errors import MeshdError
from meshd_protocol.programs import CommandCall
from meshd_protocol.records import Runtime
from meshd_sdk import Mesh, Resources
from meshd_sdk.commands import (
    CommandResult,
    ProgramFuture,
    call_for_file,
    command_call,
    command_program,
    encode_call,
    encode_program,
    read_result,
)
from meshd_sdk.errors import MeshError
from meshd_sdk.executor import MeshExecutor
from meshd_sdk.inputs import look_at, name_on_node

# Commands whose files are in memory here at the same time; more than a large mesh has slots.
_UNDER_WAY_MAX: Final = 4_096
# Submitting blocks without a word once 512 MiB wait: with one more of 64 MiB that is not reached.
_BYTES_UNDER_WAY_MAX: Final = 448 << 20


class Unreadable(MeshdError):
    """A file of the command line is not there, or is too large."""

    exit_code = Exit.NO_INPUT


@click.command("run", cls=SpreadCommand, context_settings={"allow_interspersed_args": False})
@click.argument("argv", metavar="-- COMMAND…", nargs=-1, type=click.UNPROCESSED)
@click.option("--each", multiple=True, metavar="FILES", help="Run the command for each of these; {} in it is the file.")
@click.option("--in", "inputs", multiple=True, metavar="FILES", help="Files and folders that every run gets, too.")
@click.option(
    "--out", "outputs", multiple=True, metavar="PATTERNS", help="Files to bring back: names, or * ? ** in them."
)
@click.option("--to", default=".", metavar="FOLDER", help="Where to put them; {} works here, too.  [default: .]")
@click.option("--stdin", default="", metavar="FILE", help="What the command reads; - is this command's own input.")
@click.option("--env", multiple=True, metavar="NAME=VALUE", help="A variable for the command.")
@click.option("--in-order", is_flag=True, help="Print in the order of the files, not as they end.")
@click.option("--timeout", type=float, metavar="SECONDS", help="End what runs for longer, with exit code 124.")
@click.option("--cpus", type=float, default=1.0, show_default=True, help="Cores that each run needs.")
@click.option("--memory", default="0", help='Memory that each run may use, such as "4GiB".')
@click.option("--gpus", type=int, default=0, help="GPUs that each run needs.")
@click.option("--replicas", type=int, default=0, help="Run each on so many nodes, and compare.")
@click.option("--name", default="", help="The job's name in `meshd jobs`.")
def command(timeout: float | None, cpus: float, memory: str, gpus: int, replicas: int, name: str, **asked: Any) -> int:
    """Run a command on the mesh; print what it prints, end as it ends.

    It runs in an empty folder that holds the files named by --in and --each. No shell reads it. With --each, the exit
    code is 0 if all ended well, 123 if some did not, 124 if some took too long, 125 if the mesh had no
    result for some, 127 without the program; 73 or 74 if files that came back could not be written.
    """
    order = Order(**asked)
    if not order.argv:
        raise click.UsageError("name the command, after --")
    try:
        resources = Resources(cpus, memory, gpus)
        job = name or order.argv[0][:100]
        with in_words(), _mesh(timeout=timeout, resources=resources, replicas=replicas, name=job) as mesh:
            return run(Output(), mesh, order)
    except (ValueError, TypeError) as error:
        raise Unusable(str(error), "see meshd run --help") from error
    except OSError as error:
        raise Unreadable(f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror)) from error


def run(output: Output, mesh: MeshExecutor, order: Order) -> int:
    """Submit, print and save as results come; return the exit code."""
    for path in order.each:  # all, before any: nobody wants half of them to run
        look_at(path)
    program = encode_program(command_program(order.inputs, _variables(order.env)))
    runs = Runs(output, order)
    under_way = _UnderWay(runs, Patience(output, mesh))
    for number, (call, path) in enumerate(_calls(order)):
        make = partial(ProgramFuture, read=read_result(call.argv, call.outputs, check=False))
        runs.paths.append(path)
        payload = encode_call(call)
        under_way.add(mesh.submit_program(Runtime.COMMAND, program, payload, make), number, len(payload))
        while under_way.is_full:
            under_way.take()
    while under_way.count:
        under_way.take()
    return runs.exit_code()


def _calls(order: Order) -> Iterator[tuple[CommandCall, str]]:
    """Each run, and the path of its file on the node; files are read one after the other."""
    stdin = _stdin(order.stdin)
    if not order.each:
        yield command_call(order.argv, (), order.outputs, stdin), ""
    for path in order.each:
        call = call_for_file(order.argv, path, order.outputs)
        yield CommandCall(call.argv, (), call.inputs, call.outputs, stdin), name_on_node(path)


class _UnderWay:
    """Runs that were submitted and have not ended: the number and size of each."""

    def __init__(self, runs: Runs, patience: Patience) -> None:
        self._runs = runs
        self._patience = patience
        self._sizes: dict[Future[CommandResult], tuple[int, int]] = {}
        self._bytes = 0

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._sizes)

    @property
    def is_full(self) -> bool:
        """Whether to wait for some before the next is submitted."""
        return self.count >= _UNDER_WAY_MAX or self._bytes > _BYTES_UNDER_WAY_MAX

    def add(self, future: Future[CommandResult], number: int, size: int) -> None:
        """One more was submitted."""
        self._sizes[future] = number, size
        self._bytes += size

    def take(self) -> None:
        """Wait until some end, or until it is time to say why none does."""
        done, _ = wait(self._sizes, PATIENCE_S, return_when=FIRST_COMPLETED)
        if not done:
            self._patience.explain()
        for future in sorted(done, key=self._sizes.__getitem__):
            number, size = self._sizes.pop(future)
            self._bytes -= size
            self._runs.ended(number, future)


@contextmanager
def _mesh(**options: Any) -> Iterator[MeshExecutor]:
    with Mesh() as mesh:
        executor = mesh.options(**options)
        try:
            yield executor
        except BaseException:  # Ctrl-C as well: what runs is of no use to anybody
            try:
                with suppress(MeshError):
                    executor.cancel()
            finally:
                mesh.shutdown(wait=False, cancel_futures=True)
            raise


def _stdin(path: str) -> bytes:
    if path == "-":
        return sys.stdin.buffer.read()
    return Path(path).read_bytes() if path else b""


def _variables(texts: Sequence[str]) -> dict[str, str]:
    pairs = [text.partition("=") for text in texts]
    if wrong := [name for name, equals, _ in pairs if not equals]:
        raise ValueError(f"--env {wrong[0]} has no value: --env {wrong[0]}=VALUE")
    return {name: value for name, _, value in pairs}
