"""The demo itself: a mesh, a job, the truth about both."""

import platform
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Final, Protocol

from meshd_node.demo.counting import count_identifiers, most_used
from meshd_node.demo.errors import DemoFailed
from meshd_node.demo.findings import Findings, Share, plainest_lie
from meshd_node.demo.nodes import (
    LIAR,
    NAMES,
    Node,
    daemons,
    folder_for_all,
    found,
    join,
    wait_until_all_know_each_other,
)
from meshd_node.demo.signals import leaving_in_order
from meshd_node.demo.sources import Source, standard_library
from meshd_sdk import Job, Mesh, MeshError

TOP: Final = 20
_COPIES: Final = 2
_LOOK_S: Final = 0.1
# A mesh that finishes no file for so long will not finish any.
_STALL_S: Final = 20.0

# Told how many of the files are done, and how many lies were outvoted so far.
Progress = Callable[[int, int], None]


class Audience(Protocol):
    """Who is shown the demo while it goes on."""

    def step(self, doing: str, done: str) -> AbstractContextManager[None]:
        """Something takes a moment: `doing` until the block ends, then `done`."""
        ...

    def counting(self, total: int, done: str) -> AbstractContextManager[Progress]:
        """The job runs."""
        ...


def run_demo(audience: Audience, *, files_max: int | None = None) -> Findings:
    """Do everything and clean up; raise `DemoFailed` if it can not be done. `files_max` is for tests in a hurry."""
    began = time.monotonic()
    with leaving_in_order():
        with audience.step("reading the standard library", "read the sources of the standard library"):
            sources = standard_library()[:files_max]
        with folder_for_all() as base, daemons() as nodes:
            with audience.step("founding a mesh", "ada founded a mesh and runs its first daemon"):
                found(base, nodes)
            with audience.step("inviting three more", "grace, alan and mallory joined with one token, and run theirs"):
                join(base, nodes)
            with audience.step("waiting until they know each other", "all four are linked, by TLS with certificates"):
                wait_until_all_know_each_other(nodes)
            findings = _work(audience, nodes, sources)
    return replace(findings, total_s=time.monotonic() - began)


def _work(audience: Audience, nodes: list[Node], sources: list[Source]) -> Findings:
    try:
        with nodes[0].mesh as mesh:
            submitted = time.monotonic()
            with audience.counting(len(sources), f"{len(sources)} files counted by two nodes each") as progress:
                copies = mesh.options(replicas=_COPIES, quorum=_COPIES)
                job = copies.job(count_identifiers, [source.text for source in sources], name="identifiers")
                _follow(mesh, job, nodes, progress)
                counts: list[dict[str, int]] = list(job.results())
            job_s = time.monotonic() - submitted
            shares = _shares(mesh.peers(), _summary(mesh, job))
            lie = plainest_lie(job.disagreements(), [source.name for source in sources], LIAR)
    except MeshError as error:
        nodes[0].check()
        raise DemoFailed(f"the mesh did not do the job: {error}") from error
    with audience.step("recounting here", "recounted here, without the mesh"):
        here = [count_identifiers(source.text) for source in sources]
    return Findings(
        python=platform.python_version(),
        files=len(sources),
        source_bytes=sum(len(source.text.encode()) for source in sources),
        top=most_used(counts, TOP),
        recounted=most_used(here, TOP),
        wrong=sum(said != true for said, true in zip(counts, here, strict=True)),
        shares=shares,
        lie=lie,
        job_s=job_s,
        total_s=0.0,  # when all is cleaned up
    )


def _follow(mesh: Mesh, job: Job, nodes: Sequence[Node], progress: Progress) -> None:
    """Look at the job until it has ended; raise `DemoFailed` with the reason if a daemon dies or nothing moves."""
    done, moved = 0, time.monotonic()
    while True:
        summary = _summary(mesh, job)
        progress(summary["done"], sum(summary["outvoted"].values()))
        if summary["state"] != "running":
            return
        for node in nodes:
            node.check()
        if summary["done"] > done:
            done, moved = summary["done"], time.monotonic()
        elif time.monotonic() - moved > _STALL_S:
            raise DemoFailed(f"no file was finished for {_STALL_S:.0f} s: {'; '.join(job.why()['why'])}")
        time.sleep(_LOOK_S)


def _summary(mesh: Mesh, job: Job) -> dict[str, Any]:
    return next(each for each in mesh.jobs() if each["id"] == job.id)


def _shares(peers: list[dict[str, Any]], summary: dict[str, Any]) -> list[Share]:
    accepted, outvoted = summary["shares"], summary["outvoted"]
    named = [(peer["name"], peer["node"]) for peer in peers]
    return [
        Share(name, node, name == LIAR, accepted.get(node, 0), outvoted.get(node, 0))
        for name, node in sorted(named, key=lambda each: NAMES.index(each[0]))
    ]
