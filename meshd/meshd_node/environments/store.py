"""The environments of a folder: each is built once, by whichever daemon of the machine comes first, and kept a while.

`NAME/site` is what workers import from, `NAME/contents.json` what it has to be, `NAME.lock` who builds or uses it, and
`NAME.new` a build that is under way or was cut off. NAME is the digest of the lock and what it was built for.
"""

import shutil
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import trio

from meshd_node.environments import contents
from meshd_node.environments.build import Builder, Tell
from meshd_node.environments.config import EnvironmentsConfig
from meshd_node.environments.errors import EnvironmentRefused
from meshd_node.environments.guard import Guard
from meshd_node.log import log
from meshd_protocol.locks import Lock

# How often somebody who waits for another daemon's build looks for it.
_AGAIN_S: Final = 0.1
_BUILT_FOR: Final = f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}"


@dataclass(frozen=True, slots=True)
class Held:
    """An environment in use: nobody removes it before `release`."""

    site: Path
    guard: Guard

    def release(self) -> None:
        """It is not used any more."""
        self.guard.touch()
        self.guard.release()


class Store:
    """One folder, perhaps shared with other daemons of this machine."""

    def __init__(self, root: Path, builder: Builder) -> None:
        self._root = root
        self._builder = builder

    @property
    def config(self) -> EnvironmentsConfig:
        """The bounds."""
        return self._builder.config

    async def acquire(self, digest: bytes, lock: Lock, tell: Tell) -> Held:
        """Have the environment of a lock, building it if need be; raise `EnvironmentRefused` if it can not be had.

        Every file is checked before; what was damaged is built anew. `tell` hears how far it is.
        """
        if not self.config.number_max:
            raise EnvironmentRefused("this node keeps no environments (environments.number_max is 0)")
        self._root.mkdir(parents=True, exist_ok=True)
        self._root.chmod(0o755)  # other users' cages look below, whatever the daemon's umask
        place = self._root / f"{digest.hex()}-{_BUILT_FOR}"
        with trio.move_on_after(self.config.build_s):
            while True:
                held = await self._use(place, tell) or await self._make(place, lock, tell)
                if held is not None:
                    return held
                tell("waiting for another daemon that builds it")
                await trio.sleep(_AGAIN_S)
        raise EnvironmentRefused(
            f"the environment was not built within {self.config.build_s:g} s (environments.build_s): try again later"
        )

    async def _use(self, place: Path, tell: Tell) -> Held | None:
        """Use what is there, if it is and is whole."""
        if not _is_there(place):
            return None
        guard = Guard.take(_lock_of(place), alone=False)
        if guard is None:
            return None
        return await self._checked(place, guard, tell)

    async def _make(self, place: Path, lock: Lock, tell: Tell) -> Held | None:
        """Build it, unless somebody else builds it or has done so meanwhile."""
        guard = Guard.take(_lock_of(place), alone=True)
        if guard is None:
            return None
        try:
            if not _is_there(place) or await trio.to_thread.run_sync(_is_damaged, place):
                await self._build(place, lock, tell)
            if guard.share():
                guard.touch()
                held = Held(place / contents.SITE, guard)
                guard = None
                return held
        finally:
            if guard is not None:
                guard.release()
        return None

    async def _checked(self, place: Path, guard: Guard, tell: Tell) -> Held | None:
        """What is held already, or None and let go of if it is damaged."""
        kept = False
        try:
            tell("checking it")
            fault = await trio.to_thread.run_sync(contents.damage, place)
            if fault:
                log.warning("environment_damaged", environment=place.name, reason=fault)
                return None
            guard.touch()
            kept = True
            return Held(place / contents.SITE, guard)
        finally:
            if not kept:
                guard.release()

    async def _build(self, place: Path, lock: Lock, tell: Tell) -> None:
        """Build beside, then put it in its place. Whoever calls holds the lock alone."""
        new = place.with_name(f"{place.name}.new")
        await trio.to_thread.run_sync(_remove, new)
        await trio.to_thread.run_sync(self._make_room, place, 0)
        log.info("environment_builds", environment=place.name, packages=len(lock.pins))
        began = trio.current_time()
        try:
            built = await self._builder.build(lock, new, tell)
            await trio.to_thread.run_sync(self._make_room, place, built.size)
            await trio.to_thread.run_sync(_remove, place)
            new.rename(place)
        finally:
            with trio.CancelScope(shield=True):
                await trio.to_thread.run_sync(_remove, new)
        seconds = round(trio.current_time() - began, 1)
        log.info("environment_built", environment=place.name, bytes=built.size, seconds=seconds)

    def _make_room(self, place: Path, size: int) -> None:
        """Remove what was used longest ago and is not in use, until one of this size may be added."""
        others = [path for path in self._root.iterdir() if _is_environment(path) and path != place]
        kept = {path: contents.size_of(path) for path in others}
        for path in sorted(others, key=_used_at):
            if len(kept) < self.config.number_max and sum(kept.values()) + size <= self.config.total_bytes:
                return
            if _remove_unused(path):
                log.info("environment_removed", environment=path.name, bytes=kept.pop(path))
        if len(kept) >= self.config.number_max or sum(kept.values()) + size > self.config.total_bytes:
            raise EnvironmentRefused(
                f"this node keeps {len(kept)} environments of {sum(kept.values()) >> 20} MiB, all in use, and has no "
                "room for another (environments.number_max, total_mib): try again later"
            )


def _is_there(place: Path) -> bool:
    return place.exists()


def _is_damaged(place: Path) -> bool:
    return bool(contents.damage(place))


def _lock_of(place: Path) -> Path:
    return place.with_name(f"{place.name}.lock")


def _is_environment(path: Path) -> bool:
    return path.is_dir() and path.suffix != ".new"


def _used_at(path: Path) -> float:
    try:
        return _lock_of(path).stat().st_mtime
    except FileNotFoundError:
        return 0.0


def _remove_unused(place: Path) -> bool:
    guard = Guard.take(_lock_of(place), alone=True)
    if guard is None:
        return False
    try:
        _remove(place)
        _lock_of(place).unlink(missing_ok=True)
    finally:
        guard.release()
    return True


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
