"""Addresses as people write them, `HOST:PORT` or `[HOST]:PORT`."""

from meshd_node.errors import ConfigError


def split_address(address: str) -> tuple[str, int]:
    """Split `HOST:PORT`; raise `ConfigError` if it is neither that nor `[HOST]:PORT`."""
    host, colon, port = address.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ConfigError(f"{address!r} is not an address: write an IPv6 host in brackets, [HOST]:PORT")
    # Characters first: int() also reads signs, spaces, underscores and other scripts' digits.
    if not (colon and host and port.isascii() and port.isdecimal() and len(port) <= 5 and int(port) < 1 << 16):
        raise ConfigError(f"{address!r} is not an address: write HOST:PORT, the port from 0 to 65535")
    return host, int(port)


def join_address(host: str, port: int) -> str:
    """Write an address."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
