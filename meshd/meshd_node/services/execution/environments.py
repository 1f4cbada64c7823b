"""The environments that work asks for: built one after the other, held while work uses them."""

import math
from collections import OrderedDict
from dataclasses import dataclass
from typing import Final, Protocol

import trio

from meshd_node.core.submitter import Submitter
from meshd_node.environments.errors import EnvironmentRefused
from meshd_node.environments.store import Held, Store
from meshd_node.log import log
from meshd_protocol.errors import MalformedMessage
from meshd_protocol.limits import REASON_CHARS_MAX
from meshd_protocol.locks import Lock

# Environments that wait to be built: of all, and of one submitter.
WAITING_MAX: Final = 16
WAITING_OF_SUBMITTER_MAX: Final = 4
# A build that failed is not tried again before: by then an index may answer.
RETRY_S: Final = 30.0
_FAILURES_KEPT: Final = 256
# How often environments that nothing uses any more are let go of.
_LOOK_S: Final = 60.0


class Awaiting(Protocol):
    """Whose work needs environments. May be told inside `prepare`."""

    def environment_ready(self, environment: bytes) -> None:
        """It is there."""
        ...

    def environment_failed(self, environment: bytes, reason: str) -> None:
        """It can not be had."""
        ...

    def environment_gone(self, environment: bytes) -> None:
        """It was not used, and may be removed from now on."""
        ...

    def uses(self, environment: bytes) -> bool:
        """Whether some work needs it now."""
        ...


@dataclass(frozen=True, slots=True)
class EnvironmentRow:
    """One environment that this node has in use or builds. `state` is "ready", or what is being done; for people."""

    digest: bytes
    packages: int
    state: str
    seconds: float


@dataclass(slots=True)
class _Wanted:
    """A lock whose environment is asked for."""

    lock: Lock
    submitter: Submitter
    since: float
    doing: str = "waiting for its turn"


@dataclass(frozen=True, slots=True)
class _InUse:
    """An environment that is there."""

    lock: Lock
    held: Held
    took_s: float


class Environments:
    """Has environments ready, one build at a time: each uses all cores for a moment, and the network."""

    def __init__(self, store: Store, awaiting: Awaiting) -> None:
        self._store = store
        self._awaiting = awaiting
        # The first is being built.
        self._wanted: OrderedDict[bytes, _Wanted] = OrderedDict()
        self._in_use: dict[bytes, _InUse] = {}
        self._failures: OrderedDict[bytes, tuple[float, str]] = OrderedDict()
        self._woken = trio.Event()

    def prepare(self, environment: bytes, submitter: Submitter, data: bytes) -> None:
        """Have the environment of a lock, which is `data`; its outcome is told, sooner or later."""
        if environment in self._in_use:
            self._awaiting.environment_ready(environment)
            return
        until, reason = self._failures.get(environment, (-math.inf, ""))
        if until > trio.current_time():
            self._awaiting.environment_failed(environment, reason)
            return
        try:
            self._want(environment, submitter, data)
        except (EnvironmentRefused, MalformedMessage) as error:
            self._awaiting.environment_failed(environment, str(error)[:REASON_CHARS_MAX])

    def site(self, environment: bytes) -> str:
        """The folder that work of an environment in use imports from; "" for work that needs none."""
        return str(self._in_use[environment].held.site) if environment else ""

    def rows(self) -> list[EnvironmentRow]:
        """What is in use and what is being made."""
        now = trio.current_time()
        there = [
            EnvironmentRow(digest, len(each.lock.pins), "ready", each.took_s) for digest, each in self._in_use.items()
        ]
        coming = [
            EnvironmentRow(digest, len(each.lock.pins), each.doing, now - each.since)
            for digest, each in self._wanted.items()
        ]
        return there + coming

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Build what is asked for until cancelled; then let go of everything."""
        task_status.started()
        try:
            while True:
                self._let_go()
                if self._wanted:
                    await self._build(*next(iter(self._wanted.items())))
                else:
                    await self._wait()
        finally:
            for each in self._in_use.values():
                each.held.release()
            self._in_use.clear()

    async def _wait(self) -> None:
        self._woken = trio.Event()
        with trio.move_on_after(_LOOK_S if self._in_use else math.inf):
            await self._woken.wait()

    def _want(self, environment: bytes, submitter: Submitter, data: bytes) -> None:
        assert environment not in self._wanted, "the machine asks once until it is told"
        of_submitter = sum(each.submitter == submitter for each in self._wanted.values())
        if len(self._wanted) >= WAITING_MAX or of_submitter >= WAITING_OF_SUBMITTER_MAX:
            raise EnvironmentRefused(f"{len(self._wanted)} environments wait to be built on this node: try again later")
        self._wanted[environment] = _Wanted(Lock.decode(data), submitter, trio.current_time())
        self._woken.set()

    async def _build(self, environment: bytes, wanted: _Wanted) -> None:
        def tell(doing: str) -> None:
            wanted.doing = doing

        try:
            held = await self._store.acquire(environment, wanted.lock, tell)
        except EnvironmentRefused as error:
            self._fail(environment, str(error))
        except OSError as error:
            self._fail(environment, f"this node can not keep environments: {error.strerror or error}")
        else:
            del self._wanted[environment]
            self._in_use[environment] = _InUse(wanted.lock, held, trio.current_time() - wanted.since)
            self._awaiting.environment_ready(environment)

    def _fail(self, environment: bytes, reason: str) -> None:
        log.warning("environment_refused", environment=environment.hex(), reason=reason)
        del self._wanted[environment]
        self._failures[environment] = (trio.current_time() + RETRY_S, reason[:REASON_CHARS_MAX])
        if len(self._failures) > _FAILURES_KEPT:
            self._failures.popitem(last=False)
        self._awaiting.environment_failed(environment, reason[:REASON_CHARS_MAX])

    def _let_go(self) -> None:
        """Let go of what nothing uses: it stays on the disk for as long as there is room."""
        for environment in [each for each in self._in_use if not self._awaiting.uses(each)]:
            self._awaiting.environment_gone(environment)
            self._in_use.pop(environment).held.release()
