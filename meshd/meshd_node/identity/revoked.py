"""The revocations that a node knows, in its folder: after a restart it still refuses whom it refused before.

The file is as private as the node's own key, so what is read from it was verified when it was written.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Final

from meshd_node.identity.errors import FolderDamaged, FolderUnusable
from meshd_node.identity.files import make_private_file
from meshd_protocol.limits import REVOCATIONS_MAX
from meshd_protocol.messages.membership import SignedRevocation
from meshd_protocol.records import Revocation

_SCHEMA: Final = """
    CREATE TABLE IF NOT EXISTS revocations (
        node BLOB NOT NULL,
        operator TEXT NOT NULL,
        until_ms INTEGER NOT NULL,
        body BLOB NOT NULL,
        signature BLOB NOT NULL,
        issuer BLOB NOT NULL,
        PRIMARY KEY (node, operator)
    ) STRICT
"""
# Of two for the same node and operator that stays which ends later, as in the mesh.
_KEEP: Final = """
    INSERT INTO revocations VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET until_ms = excluded.until_ms, body = excluded.body, signature = excluded.signature,
        issuer = excluded.issuer
    WHERE excluded.until_ms > until_ms
"""
# Of too many the operator that has most loses what ends first, as in the mesh.
_TRIM: Final = """
    DELETE FROM revocations WHERE rowid IN (
        SELECT id FROM (
            SELECT rowid AS id, operator,
                row_number() OVER (PARTITION BY operator ORDER BY until_ms DESC, body DESC) AS place
            FROM revocations
        )
        ORDER BY place, operator LIMIT -1 OFFSET ?
    )
"""
_BUSY_S: Final = 5.0


class RevokedFile:
    """A file of revocations. It is opened for each call: they are rare."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def load(self) -> list[SignedRevocation]:
        """All that were kept, also those that have ended since. Raise `FolderDamaged` rather than let them back in."""
        if not self._path.exists():
            return []
        try:
            with self._opened() as database:
                rows = database.execute("SELECT body, signature, issuer FROM revocations ORDER BY node").fetchall()
        except sqlite3.DatabaseError as error:
            raise FolderDamaged(
                f"{self._path}: {error}", "restore it, or delete it: the mesh tells this node of revocations again"
            ) from error
        return [SignedRevocation(body, signature, issuer) for body, signature, issuer in rows]

    def keep(self, revocations: Sequence[tuple[Revocation, SignedRevocation]], wall: float) -> None:
        """Have these on the disk when this returns; drop what has ended."""
        rows = [
            (record.node, record.operator, record.until_ms, signed.body, signed.signature, signed.issuer)
            for record, signed in revocations
        ]
        try:
            with self._opened() as database:
                database.execute("BEGIN IMMEDIATE")
                database.execute("DELETE FROM revocations WHERE until_ms < ?", (int(wall * 1_000),))
                database.executemany(_KEEP, rows)
                database.execute(_TRIM, (REVOCATIONS_MAX,))
                database.execute("COMMIT")
        except sqlite3.Error as error:
            raise FolderUnusable(f"can not write {self._path}: {error}", "free some disk, or restore it") from error

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        make_private_file(self._path)
        with closing(sqlite3.connect(self._path, timeout=_BUSY_S, isolation_level=None)) as database:
            # EXTRA also syncs the folder, so that a power cut can not bring an undone transaction back.
            database.execute("PRAGMA synchronous = EXTRA")
            database.execute(_SCHEMA)
            yield database
