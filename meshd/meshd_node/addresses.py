"""Addresses as people write them in settings and options: the port may be left out."""

from ipaddress import IPv6Address
from typing import Final

from meshd_node.errors import ConfigError
from meshd_node.net.addresses import join_address, split_address
from meshd_protocol.limits import ADDRESS_CHARS_MAX

DEFAULT_PORT: Final = 7423


def complete_address(text: str, port: int = DEFAULT_PORT) -> str:
    """Write `HOST`, `HOST:PORT`, `V6`, `[V6]` or `[V6]:PORT` out as an address; raise `ConfigError`."""
    if text.isascii() and text.isdecimal():
        raise ConfigError(f"{text} is no address: write HOST:PORT, 0.0.0.0:{text} for every interface")
    if _is_v6(text):
        text = join_address(text, port)
    elif text.endswith("]") or ":" not in text:
        text = f"{text}:{port}"
    address = join_address(*split_address(text))
    if not address.isprintable() or " " in address:
        raise ConfigError(f"{address!r} is not an address: a host has no spaces and no control characters")
    if len(address) > ADDRESS_CHARS_MAX:
        raise ConfigError(
            f"an address has at most {ADDRESS_CHARS_MAX} characters, {address[:20]!r}… has {len(address)}"
        )
    return address


def _is_v6(text: str) -> bool:
    try:
        IPv6Address(text)
    except ValueError:
        return False
    return True
