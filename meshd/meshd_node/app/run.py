"""From the environment to a running node and back: settings, log, signals, the process's own tuning."""

import gc
import signal
import socket
from collections.abc import Callable, Mapping
from typing import Final

import trio

from meshd_node import log
from meshd_node.activation import inherited
from meshd_node.app.daemon import WORKER_MODULE, Daemon, Lends, Started
from meshd_node.config import load
from meshd_node.errors import MeshdError
from meshd_node.identity.folder import NodeFolder
from meshd_node.places import credentials_folder, node_folder
from meshd_node.services.notify import Notifier

# The name of the local socket where systemd listens on it (`FileDescriptorName=` of meshd.socket).
LOCAL_SOCKET: Final = "local"
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
# Rows of units are many, long-lived and without cycles: the default thresholds would walk all of them again and again.
_GC_THRESHOLDS: Final = (50_000, 20, 100)


def run_node(
    environ: Mapping[str, str],
    uid: int,
    on_started: Callable[[Started], None],
    on_lends: Callable[[Lends], None],
    *,
    worker_module: str = WORKER_MODULE,
) -> None:
    """Run this user's node until SIGTERM or SIGINT; a second one ends it without a drain. Raise `MeshdError`.

    SIGHUP has it read its charter anew.
    """
    folder = node_folder(environ, uid)
    config = load(folder, environ)
    log.configure(config.log.level, as_json=config.log.json)
    notifier = Notifier(environ)
    listener = inherited(environ, LOCAL_SOCKET, socket.SOCK_STREAM)

    def build() -> Daemon:
        return Daemon(
            NodeFolder(folder, credentials_folder(environ)),
            config,
            read_config=lambda: load(folder, environ),
            worker_module=worker_module,
            local=listener,
        )

    def started(facts: Started) -> None:
        notifier.ready(f"node {facts.node_name} of mesh {facts.mesh_name}")
        on_started(facts)

    try:
        trio.run(_run, build, started, on_lends, notifier)
    except BaseExceptionGroup as group:
        raise _the_users(group) from group


async def _run(
    build: Callable[[], Daemon],
    on_started: Callable[[Started], None],
    on_lends: Callable[[Lends], None],
    notifier: Notifier,
) -> None:
    stop = trio.Event()
    daemon = build()
    gc.freeze()
    gc.set_threshold(*_GC_THRESHOLDS)
    gc.enable()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_obey_signals, stop, nursery.cancel_scope, daemon.reload, notifier)
        nursery.start_soon(notifier.beat)
        await daemon.run(on_started, on_lends, stop)
        nursery.cancel_scope.cancel()


async def _obey_signals(
    stop: trio.Event, at_once: trio.CancelScope, reload: Callable[[], None], notifier: Notifier
) -> None:
    with trio.open_signal_receiver(*_SIGNALS, signal.SIGHUP) as signals:
        async for number in signals:
            if number == signal.SIGHUP:
                reload()
            elif stop.is_set():
                at_once.cancel()
            else:
                notifier.stopping("draining")
                stop.set()


def _the_users(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """What the person who started the node can mend, if there is nothing else in the group."""
    mine, others = group.split(MeshdError)
    error: BaseException = group if mine is None or others is not None else mine
    while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
        error = error.exceptions[0]
    return error
