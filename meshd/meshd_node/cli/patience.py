"""Why nothing comes of what was submitted: told on standard error while no node has any of it."""

import re
from collections.abc import Sequence
from typing import Any, Final, Protocol

from meshd_node.cli.output import Output
from meshd_node.cli.text import printable
from meshd_sdk.errors import MeshError

# Longer than a mesh at rest takes to connect nodes and place the first units.
PATIENCE_S: Final = 3.0
# A mesh may have a reason for each of its nodes.
_REASONS_SHOWN: Final = 4
# "asked again in 2.1 s" is the same reason as "asked again in 1.1 s".
_COUNTDOWN: Final = re.compile(r" in [0-9.]+ s\b")


class Waiter(Protocol):
    """Whoever knows how its jobs stand, as `MeshExecutor` does."""

    def progress(self) -> list[dict[str, Any]]:
        """What the daemon knows of each job."""


class Patience:
    """Asks why, and says each reason once in a row."""

    def __init__(self, output: Output, mesh: Waiter) -> None:
        self._output = output
        self._mesh = mesh
        self._said: list[str] = []

    def explain(self) -> None:
        """Nothing has ended for `PATIENCE_S`: say why, unless something runs or it was said."""
        reasons, more = self._reasons()
        told = [_COUNTDOWN.sub("", reason) for reason in reasons]
        if told == self._said:
            return
        self._said = told
        self._output.progress("")
        for reason in reasons[:_REASONS_SHOWN]:
            self._output.note(f"meshd: it waits: {printable(reason)}")
        if len(reasons) > _REASONS_SHOWN:
            self._output.note(f"meshd: and for {len(reasons) - _REASONS_SHOWN} reasons more: see `meshd job {more}`")

    def _reasons(self) -> tuple[Sequence[str], str]:
        try:
            jobs = self._mesh.progress()
        except MeshError as error:
            return [str(error)], ""
        for job in jobs:
            if job["waiting"] and not job["running"]:
                return job["why"][1:], job["id"]  # the first line counts units
        return [], ""
