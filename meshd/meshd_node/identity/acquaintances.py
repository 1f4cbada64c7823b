"""Addresses of members that were alive, in the node's folder: how it comes back when its token's seeds are gone."""

from pathlib import Path
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from meshd_node.errors import MeshdError
from meshd_node.identity.files import read_private, replace_private
from meshd_node.log import log
from meshd_protocol.limits import SEEDS_MAX
from meshd_protocol.records import Address

# Enough that one of them lives after a bad night; the first that answers tells of all others.
KEPT: Final = 2 * SEEDS_MAX

_Addresses = Annotated[list[Address], Meta(max_length=KEPT)]


class Acquaintances:
    """A file of addresses. A damaged one is as good as none: it holds hints, which others check."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._written = self.read()

    def read(self) -> tuple[str, ...]:
        """What was kept."""
        try:
            return tuple(msgspec.json.decode(read_private(self._file) or b"[]", type=_Addresses))
        except (msgspec.DecodeError, UnicodeDecodeError, MeshdError) as error:
            log.warning("acquaintances_unreadable", file=str(self._file), reason=str(error))
            return ()

    def keep(self, addresses: list[str]) -> None:
        """Keep these instead, unless nothing changed. A full disk costs the hints, not the node."""
        kept = tuple(sorted(addresses)[:KEPT])
        if not kept or kept == self._written:
            return
        try:
            replace_private(self._file, msgspec.json.encode(list(kept)))
            self._written = kept
        except MeshdError as error:
            log.warning("acquaintances_not_kept", reason=str(error))
