"""The uses of invites, counted on disk before a certificate leaves: killed at any moment, no use is lost or free.

A key that comes again with the same invite gets the certificate that it got: an answer lost on the way costs nothing.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshd_node.identity.errors import FolderUnusable
from meshd_node.identity.files import make_private_file

_SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS uses (
        invite TEXT NOT NULL,
        key BLOB NOT NULL,
        label TEXT NOT NULL,
        certificate BLOB NOT NULL,
        issuer BLOB NOT NULL,
        used_at REAL NOT NULL,
        ends_at REAL NOT NULL,
        PRIMARY KEY (invite, key)
    ) STRICT
"""
_BUSY_S: Final = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Use:
    """One key that an invite let in. `chain` is what its holder was sent."""

    invite: int
    key: bytes
    label: str
    chain: tuple[bytes, bytes]
    used_at: float
    ends_at: float


class Ledger:
    """The uses of this issuer's invites. Every call opens the file anew: they are rare, and one handle less stays."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def find(self, invite: int, key: bytes) -> Use | None:
        """What this key got from this invite, if it was here before."""
        return next((use for use in self.uses(invite) if use.key == key), None)

    def uses(self, invite: int) -> list[Use]:
        """Everybody that an invite let in, oldest first."""
        with self._opened() as database:
            rows = database.execute(
                "SELECT key, label, certificate, issuer, used_at, ends_at FROM uses WHERE invite = ? ORDER BY used_at",
                (_text(invite),),
            ).fetchall()
        return [
            Use(invite=invite, key=key, label=label, chain=(leaf, issuer), used_at=used_at, ends_at=ends_at)
            for key, label, leaf, issuer, used_at, ends_at in rows
        ]

    def everybody(self) -> list[bytes]:
        """The certificates of all that were let in and whose certificates of then have not ended long ago."""
        if not self._path.exists():
            return []
        with self._opened() as database:
            return [leaf for (leaf,) in database.execute("SELECT certificate FROM uses").fetchall()]

    def count(self, use: Use, uses_max: int) -> Use | None:
        """Count a use: return it once it is on the disk, or what counts in its place, or None if none is left."""
        with self._opened() as database:
            # One writer at a time from here on: what is read next can not change before the commit.
            database.execute("BEGIN IMMEDIATE")
            database.execute("DELETE FROM uses WHERE ends_at < ?", (use.used_at,))
            counted = database.execute(
                "INSERT INTO uses SELECT ?, ?, ?, ?, ?, ?, ? "
                "WHERE (SELECT count(*) FROM uses WHERE invite = ?) < ? ON CONFLICT DO NOTHING",
                (
                    *(_text(use.invite), use.key, use.label, *use.chain, use.used_at, use.ends_at),
                    *(_text(use.invite), uses_max),
                ),
            ).rowcount
            database.execute("COMMIT")
        return use if counted == 1 else self.find(use.invite, use.key)

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        make_private_file(self._path)
        try:
            with closing(sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None)) as database:
                # EXTRA also syncs the folder, so that a power cut can not bring an undone transaction back.
                database.execute("PRAGMA synchronous = EXTRA")
                database.execute(_SCHEMA)
                yield database
        except sqlite3.Error as error:
            raise FolderUnusable(f"can not count in {self._path}: {error}", "free some disk, or restore it") from error


def _text(serial: int) -> str:
    # SQLite's integers end at 63 bits, a serial has 159.
    return f"{serial:040x}"
