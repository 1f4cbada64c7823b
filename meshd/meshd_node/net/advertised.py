"""Which addresses others are told, where the operator does not say."""

import ipaddress
import socket
from collections.abc import Iterable

import psutil

from meshd_node.net.addresses import join_address, split_address
from meshd_protocol.limits import ADDRESSES_MAX


def advertised(bound: Iterable[str]) -> list[str]:
    """The addresses that are listened on; one that means "every interface" is replaced by all that it stands for.

    Loopback is told only where there is nothing else: a mesh on one machine.
    """
    found: dict[str, None] = {}
    for address in bound:
        host, port = split_address(address)
        if _is_every_interface(host):
            found.update((join_address(each, port), None) for each in _of_this_machine(v6=":" in host))
        else:
            found[address] = None
    return list(found)[:ADDRESSES_MAX]


def _is_every_interface(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False  # a name


def _of_this_machine(*, v6: bool) -> list[str]:
    families = (socket.AF_INET, socket.AF_INET6) if v6 else (socket.AF_INET,)
    interfaces = psutil.net_if_addrs().values()
    texts = [address.address for addresses in interfaces for address in addresses if address.family in families]
    # A link-local address carries the name of its interface ("%eth0"), which means nothing on other machines.
    usable = [text for text in texts if not ipaddress.ip_address(text.partition("%")[0]).is_link_local]
    others = [text for text in usable if not ipaddress.ip_address(text).is_loopback]
    return others or usable
