"""A node's settings: `node.toml` in its folder, overridden by `MESHD_…` variables, handed down in parts.

The variable of a key is its path: `membership.repair_s` is MESHD_MEMBERSHIP_REPAIR_S. MESHD_LISTEN takes HOST:PORT.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from meshd_node import toml_tree
from meshd_node.addresses import DEFAULT_PORT, complete_address
from meshd_node.charter.config import CharterConfig
from meshd_node.core.directory.config import DirectoryConfig
from meshd_node.core.executor.config import ExecutorConfig
from meshd_node.core.membership.config import MembershipConfig
from meshd_node.core.owner.config import OwnerConfig
from meshd_node.environments.config import EnvironmentsConfig
from meshd_node.errors import ConfigError
from meshd_node.net.addresses import join_address, split_address
from meshd_node.net.config import NetConfig
from meshd_node.places import socket_path, warden_path
from meshd_protocol.limits import ADDRESSES_MAX, SEEDS_MAX

FILE_NAME: Final = "node.toml"
# The largest sensible file has some hundred lines.
FILE_BYTES_MAX: Final = 256 << 10
LOG_LEVELS: Final = ("debug", "info", "warning", "error")
_HEADER: Final = """\
# Settings of this node. What is not set has its default; `MESHD_…` variables override this file.
# Times end in their unit: _s are seconds, _ms are milliseconds.
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenConfig:
    """Where this node listens, and what it tells others where that differs: HOST:PORT, behind a router for one."""

    host: str = "0.0.0.0"  # noqa: S104  # strangers get an alert from TLS, never a frame
    port: int = DEFAULT_PORT
    advertise: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        complete_address(self.address)
        if len(self.advertise) > ADDRESSES_MAX:
            raise ConfigError(f"listen.advertise has {len(self.advertise)} addresses, {ADDRESSES_MAX} are allowed")
        object.__setattr__(self, "advertise", tuple(complete_address(text, self.port) for text in self.advertise))

    @property
    def address(self) -> str:
        """HOST:PORT."""
        return join_address(self.host, self.port)


@dataclass(frozen=True, slots=True, kw_only=True)
class CageConfig:
    """What keeps work apart from this machine."""

    # Run work without a cage, for whoever knows all who may submit it. This node then says that it has none.
    off: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class LogConfig:
    """What is written to standard error: from which level on, and whether as JSON, one object a line."""

    level: str = "info"
    json: bool = False

    def __post_init__(self) -> None:
        if self.level not in LOG_LEVELS:
            raise ConfigError(f"log.level must be one of {', '.join(LOG_LEVELS)}, not {self.level!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """All settings of one node."""

    # Where programs of this machine reach the daemon; from MESHD_SOCKET or MESHD_DIR, never from the file.
    socket: Path
    # Where a service makes the cages (MESHD_WARDEN); None where the daemon starts a warden of its own.
    warden: Path | None = None
    # Addresses to join through, besides those of the token.
    seeds: tuple[str, ...] = ()
    # How long SIGTERM lets running units go on. The unit of systemd waits 15 s longer.
    drain_s: float = 30.0
    listen: ListenConfig = field(default_factory=ListenConfig)
    charter: CharterConfig = field(default_factory=CharterConfig)
    cage: CageConfig = field(default_factory=CageConfig)
    environments: EnvironmentsConfig = field(default_factory=EnvironmentsConfig)
    log: LogConfig = field(default_factory=LogConfig)
    net: NetConfig = field(default_factory=NetConfig)
    membership: MembershipConfig = field(default_factory=MembershipConfig)
    directory: DirectoryConfig = field(default_factory=DirectoryConfig)
    executor: ExecutorConfig = field(default_factory=ExecutorConfig)
    owner: OwnerConfig = field(default_factory=OwnerConfig)

    def __post_init__(self) -> None:
        if len(self.seeds) > SEEDS_MAX:
            raise ConfigError(f"seeds has {len(self.seeds)} addresses, {SEEDS_MAX} are allowed")
        if not 0 <= self.drain_s <= 24 * 3600:
            raise ConfigError("drain_s must be from 0 to a day")
        object.__setattr__(self, "seeds", tuple(complete_address(text) for text in self.seeds))


def load(folder: Path, environ: Mapping[str, str]) -> NodeConfig:
    """Read the settings of the node in `folder`; raise `ConfigError`, naming the file or the variables, and the key."""
    file = folder / FILE_NAME
    table = _read(file)
    socket, warden = socket_path(folder, environ), warden_path(environ)
    config = _build(table, socket, warden, str(file))
    overrides = _overrides(environ)
    if not overrides:
        return config
    for _, path, value in overrides:
        _put(table, path, value)
    return _build(table, socket, warden, f"by {', '.join(dict.fromkeys(variable for variable, _, _ in overrides))}")


def render(config: NodeConfig) -> str:
    """The text of a `node.toml` that makes this config: what differs from the defaults."""
    return _HEADER + toml_tree.render(config)


def _build(table: dict[str, object], socket: Path, warden: Path | None, source: str) -> NodeConfig:
    try:
        return toml_tree.build(NodeConfig, table, socket=socket, warden=warden)
    except ConfigError as error:
        raise ConfigError(f"{source}: {error}", error.hint) from error


def _read(file: Path) -> dict[str, object]:
    try:
        with file.open("rb") as stream:
            data = stream.read(FILE_BYTES_MAX + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigError(f"can not read {file}: {error.strerror}") from error
    if len(data) > FILE_BYTES_MAX:
        raise ConfigError(f"{file} is larger than {FILE_BYTES_MAX} bytes: that is no file of settings")
    try:
        return tomllib.loads(data.decode("utf-8"))
    except UnicodeDecodeError as error:
        raise ConfigError(f"{file} is not UTF-8 text (byte {error.start})") from error
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ConfigError(f"{file} is not TOML: {error}") from error


def _overrides(environ: Mapping[str, str]) -> list[tuple[str, tuple[str, ...], toml_tree.Scalar]]:
    """What the environment sets, as (variable, key, value). An empty variable sets nothing."""
    found: list[tuple[str, tuple[str, ...], toml_tree.Scalar]] = []
    if text := environ.get("MESHD_LISTEN"):
        host, port = _host_and_port(text)
        found += [("MESHD_LISTEN", ("listen", "host"), host), ("MESHD_LISTEN", ("listen", "port"), port)]
    for path, kind in toml_tree.leaves(NodeConfig):
        variable = "MESHD_" + "_".join(path).upper()
        if text := environ.get(variable):
            found.append((variable, path, toml_tree.parse(kind, text, variable)))
    return found


def _host_and_port(text: str) -> tuple[str, int]:
    try:
        return split_address(complete_address(text))
    except ConfigError as error:
        raise ConfigError(f"MESHD_LISTEN: {error}") from error


def _put(table: dict[str, object], path: tuple[str, ...], value: object) -> None:
    *tables, key = path
    for name in tables:
        below = table.setdefault(name, {})
        assert isinstance(below, dict), "the file alone was built before"
        table = below
    table[key] = list(value) if isinstance(value, tuple) else value
