"""`Mesh`: the mesh that this machine's daemon belongs to, as an executor."""

from __future__ import annotations

import os
from typing import Any

from meshd_protocol.ids import JobId, from_text
from meshd_protocol.messages.local import Ask, Question
from meshd_sdk.executor import MeshExecutor
from meshd_sdk.job import AttachedStream, Job
from meshd_sdk.location import socket_path
from meshd_sdk.options import Options
from meshd_sdk.session import Session


class Mesh(MeshExecutor):
    """The local daemon at `socket`, else $MESHD_SOCKET, else $MESHD_DIR/meshd.sock, else the default places.

    Connects on the first use. Used as a context manager it waits at the end for all that was submitted.
    """

    def __init__(self, socket: str | os.PathLike[str] | None = None) -> None:
        super().__init__(Session(socket_path(socket)), Options())

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls, here and in all executors made by `options`; wait for what was submitted, or cancel it.

        Jobs made by `job` go on. `cancel_futures` also cancels what runs already: the mesh does not tell which do.
        """
        super().shutdown(wait=False, cancel_futures=cancel_futures)
        self._session.close(wait=wait, cancel=cancel_futures)

    def attach(self, job: str) -> Job:
        """The job with this id, submitted by any program of the same user; its results come (again) from the daemon."""
        identifier = JobId(from_text(job))
        units = int(self._session.ask(Ask(Question.JOB, identifier))["units"])
        stream = self._session.job_stream(identifier) or AttachedStream(self._session.link(), identifier, units)
        return Job(self._session, stream)

    def peers(self) -> list[dict[str, Any]]:
        """The members of the mesh, as `meshd peers --json` lists them."""
        members: list[dict[str, Any]] = self._session.ask(Ask(Question.PEERS))
        return members

    def status(self) -> dict[str, Any]:
        """This machine's daemon, as `meshd status --json` shows it."""
        status: dict[str, Any] = self._session.ask(Ask(Question.STATUS))
        return status

    def jobs(self) -> list[dict[str, Any]]:
        """The jobs that this machine's daemon knows, as `meshd jobs --json` lists them."""
        jobs: list[dict[str, Any]] = self._session.ask(Ask(Question.JOBS))
        return jobs
