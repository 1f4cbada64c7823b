"""One node: its parts, built in one place, and its life from start to the last goodbye."""

import os
import socket
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, NoReturn

import trio

from meshd_node import __version__
from meshd_node.app.lending import Lending
from meshd_node.app.outside import Outside
from meshd_node.capacity.gpu_watch import GpuWatch
from meshd_node.capacity.gpus import load_nvml
from meshd_node.capacity.measure import measure
from meshd_node.charter.config import CharterConfig
from meshd_node.charter.surroundings import Surroundings
from meshd_node.charter.watch import CharterWatch
from meshd_node.config import FILE_NAME, NodeConfig
from meshd_node.core.directory.machine import Directory
from meshd_node.core.executor.machine import Executor
from meshd_node.core.membership.effects import MemberState
from meshd_node.core.membership.events import VerifiedRevocation
from meshd_node.core.membership.machine import Membership
from meshd_node.core.membership.seeds import Seeds
from meshd_node.core.owner.machine import Owner
from meshd_node.core.owner.reach import Reach
from meshd_node.core.owner.spot_checks import SpotChecks
from meshd_node.environments.build import Builder
from meshd_node.environments.store import Store
from meshd_node.exec.pool import WorkerPool
from meshd_node.identity.acquaintances import Acquaintances
from meshd_node.identity.admission import Admission
from meshd_node.identity.folder import NodeFolder
from meshd_node.identity.issuer import Issuer
from meshd_node.identity.renewal import certified_now
from meshd_node.log import log
from meshd_node.net.advertised import advertised
from meshd_node.net.pool import Pool
from meshd_node.seams import KeySigner, Seams
from meshd_node.services.admission import AdmissionService
from meshd_node.services.directory.open_jobs import OpenJobs
from meshd_node.services.directory.service import DirectoryService, DirectorySetup
from meshd_node.services.draining import Draining
from meshd_node.services.execution.admittance import Admittance
from meshd_node.services.execution.environments import Environments
from meshd_node.services.execution.service import ExecutionService
from meshd_node.services.executors import Executors
from meshd_node.services.gpu_checks import GpuChecks, asking
from meshd_node.services.jobs.journal import MemoryJournal
from meshd_node.services.jobs.service import JobService
from meshd_node.services.local.answers import Answers
from meshd_node.services.local.commands import Commands
from meshd_node.services.local.server import LocalServer
from meshd_node.services.lookup.service import Lookup
from meshd_node.services.membership.service import MembershipService, MembershipSetup
from meshd_node.services.netcheck.service import NetcheckService
from meshd_node.services.outflow import Outflow
from meshd_node.services.renewal import Renewal
from meshd_node.services.revocations import NodeRevoked, RevocationService
from meshd_node.services.router import Router
from meshd_node.services.spot_checks import SpotCheckService
from meshd_protocol.certificates import Certified
from meshd_protocol.ids import NodeId
from meshd_protocol.records import Core, Phase, Revocation
from meshd_protocol.revocations import revokes

# The entry of a worker process. Only code can name another: no setting, no variable.
WORKER_MODULE: Final = "meshd_node.exec.worker"
# One small write at most in so much time, and none where nobody comes or goes.
_REMEMBER_S: Final = 5.0


@dataclass(frozen=True, slots=True)
class Started:
    """What a daemon says of itself once it is ready."""

    node_name: str
    mesh_name: str
    listening: tuple[str, ...]
    slots: int
    proved: bool


@dataclass(frozen=True, slots=True)
class Lends:
    """What a daemon says of its work once it knows what keeps that apart."""

    slots: int
    isolation: str
    charter: dict[str, object]


class Daemon:
    """A node that was built and can run once."""

    def __init__(
        self,
        folder: NodeFolder,
        config: NodeConfig,
        *,
        read_config: Callable[[], NodeConfig],
        worker_module: str = WORKER_MODULE,
        local: socket.socket | None = None,
    ) -> None:
        """Build every part; raise `MeshdError` for what can not be used. Nothing is started, nobody is told.

        `read_config` reads the settings anew: the charter takes effect whenever it changes.
        `local` listens for this machine's programs already; without it the daemon makes the socket.
        """
        identity = folder.identity()
        seams = Seams(signer=KeySigner(identity.credentials.key))
        me = certified_now(identity, seams.wall())
        self._folder = folder
        self._config = config
        self._seams = seams
        self._identity = identity
        self._capacity = measure()
        self._gpus = GpuWatch(self._capacity.gpus, self._capacity.faults)
        self._charter = CharterWatch(
            config.charter,
            folder.path / FILE_NAME,
            lambda: self._charter_of(read_config()),
            Surroundings(folder.path, seams.wall, seams.monotonic),
            self._charter_changed,
        )
        self._lending = Lending(me, self._charter, self._capacity, self._gpus, seams)
        self._cage_known = trio.Event()
        self._ended = trio.Event()
        self._ended_by: Revocation | None = None

        self._acquaintances = Acquaintances(folder.acquaintances_file)
        seeds = tuple(dict.fromkeys((*config.seeds, *identity.facts.seeds)))
        outflow = self._outflow = Outflow()
        self._revocations = RevocationService(me, folder, identity.credentials.root_key, seams)
        outside = Outside(self._revocations, outflow)
        boot_epoch = folder.next_epoch()
        self._membership = MembershipService(
            Membership(me.node, seams.rng, config.membership),
            Seeds(tuple(dict.fromkeys((*seeds, *self._acquaintances.read()))), seams.rng, config.membership),
            MembershipSetup(certified=me, root_key=identity.credentials.root_key, boot_epoch=boot_epoch),
            outside,
            seams,
        )
        self._directory = DirectoryService(
            Directory(me.node, seams.rng, config.directory),
            DirectorySetup(certified=me, root_key=identity.credentials.root_key, boot_epoch=boot_epoch),
            self._membership,
            outside,
            seams,
        )
        self._execution = ExecutionService(
            Executor(me.node, self._lending.lent(), config.executor),
            me,
            seams,
            Admittance(me, self._charter, self._lending.cage),
            outflow,
        )
        owner = Owner(me.node, seams.rng, config.owner)
        self._jobs = JobService(owner, me.node, me.mesh, seams, MemoryJournal(), self._execution, outflow)
        self._open_jobs = OpenJobs(owner.jobs, self._directory)
        self._environments = Environments(
            Store(folder.path / (config.environments.folder or "environments"), Builder(config.environments)),
            self._execution,
        )
        self._workers = WorkerPool(
            self._execution,
            self._execution.functions.get,
            worker_module=worker_module,
            site_of=self._environments.site,
            maker="plain" if config.cage.off else "",
            # Work without a cage is the operator's own choice, and the service that makes cages does not offer it.
            warden=None if config.cage.off else config.warden,
            blank=1 if self._lending.slots else 0,
            on_proved=self._proved,
        )
        self._lending.connect(self._workers)
        self._draining = Draining(self._execution, owner, self._announce, seams, outflow)
        self._execution.connect(self._workers, self._jobs, self._draining.idle, self._environments)
        self._spot_checks = SpotCheckService(self._jobs, SpotChecks(seams.rng), os.getuid(), seams, outflow)
        self._nvml = load_nvml(Path("/"))
        self._gpu_checks = GpuChecks(
            self._gpus, asking(self._nvml), self._execution.executor.gpus_in_use, self._lend_anew
        )
        self._execution.on_gpu_trouble = self._gpu_checks.look_soon
        self._executors = Executors(
            me,
            self._membership,
            self._jobs,
            Reach(seams.rng, config.owner),
            outside,
            seams,
            outflow,
            lambda: self._lending.offer(self._phase, own=True),
        )
        admission = AdmissionService(
            Admission(Issuer(folder, identity.credentials.root_key, seams.entropy, self._revocations.revoked)),
            outside,
            seams,
        )
        self._netcheck = NetcheckService(
            lambda: self._net.identity.certified,
            self._membership,
            outside,
            seams,
            seeds=seeds,
            listening=lambda: self._net.bound,
        )
        router = Router(
            self._membership,
            self._directory,
            self._jobs,
            self._execution,
            self._executors,
            admission,
            self._netcheck,
            outflow,
        )
        self._net = Pool(router, identity.credentials, config.net, seams, self._revocations)
        outside.connect(self._net, self._executors, self._execution, self._directory)
        outflow.connect(self._net.flush)
        self._revocations.connect(self._membership.revoke, self._cut_off, self._end)
        self._renewal = Renewal(
            identity.credentials,
            me,
            identity.facts.node_name,
            admission,
            self._membership,
            outside,
            self._renewed,
            seams,
        )
        answers = Answers(
            me,
            identity.facts.mesh_name,
            self._membership,
            owner,
            self._jobs.reports,
            outside,
            Lookup(me.node, self._membership, owner, self._directory, seams),
            self._netcheck,
            outside.traffic,
            seams,
            isolation=lambda: self._workers.isolation,
            draining=lambda: self._draining.on,
            environments=self._environments.rows,
            charter=self._lending.told,
        )
        commands = Commands(me.node, self._membership, self._revocations, self._draining, self._charter.reload)
        self._local = LocalServer(config.socket, self._jobs, answers, commands, outflow, listener=local)
        self._bound()

    async def run(
        self, on_started: Callable[[Started], None], on_lends: Callable[[Lends], None], stop: trio.Event
    ) -> None:
        """Serve until `stop` is set; then drain within `drain_s`, say goodbye, leave nothing behind.

        A node that lends workers calls `on_lends` once, after `on_started`, when it knows what its cage keeps.
        Cancelling instead of `stop` ends everything at once.
        """
        async with trio.open_nursery() as nursery:
            # The local socket first: it tells a second daemon in this folder from a port that somebody else has.
            await nursery.start(self._local.run)
            self._net.listen(self._config.listen.address)
            await nursery.start(self._environments.run)
            for part in (self._workers, self._jobs.timer, self._execution.timer, self._executors.timer):
                await nursery.start(part.run)
            await nursery.start(self._charter.run)
            nursery.start_soon(self._remember)
            if self._nvml is not None and self._lending.slots:
                nursery.start_soon(self._gpu_checks.run)
            nursery.start_soon(self._end_if_revoked)
            async with trio.open_nursery() as transport:
                await transport.start(self._net.run)
                self._introduce(self._net.identity.certified)
                self._announce(Phase.ALIVE)
                self._membership.revoke(self._revocations.kept)
                await nursery.start(self._membership.run)
                await nursery.start(self._directory.run)
                await nursery.start(self._netcheck.run)
                nursery.start_soon(self._renewal.run)
                nursery.start_soon(self._open_jobs.run)
                nursery.start_soon(self._spot_checks.run)
                self._outflow.flush()
                on_started(self._started())
                if self._lending.slots:
                    nursery.start_soon(self._tell_lends, on_lends)
                await stop.wait()
                await self._draining.stop(self._config.drain_s)
                self._membership.leave(self._lending.offer(Phase.LEFT))
                self._outflow.flush()
                # The transport's own nursery waits here until its goodbyes have left.
                self._net.stop()
            nursery.cancel_scope.cancel()

    def _cut_off(self, revocations: list[VerifiedRevocation]) -> None:
        """End sessions and leases with those who are revoked."""
        self._net.drop_revoked()
        for record in (each.revocation for each in revocations):
            member = self._membership.member(NodeId(record.node))
            if member is not None and revokes(record, member.certified):
                self._jobs.revoked(member.node)

    def _end(self, revocation: Revocation) -> None:
        self._ended_by = revocation
        self._ended.set()

    async def _end_if_revoked(self) -> NoReturn:
        """Stop at once, without a goodbye: nobody listens to this node any more."""
        await self._ended.wait()
        assert self._ended_by is not None, "whoever set the one set the other"
        raise NodeRevoked.by(self._ended_by)

    async def _remember(self) -> None:
        """Keep addresses of members that live, for the day when the token's seeds do not."""
        while True:
            await trio.sleep(_REMEMBER_S)
            others = [member for member in self._membership.members() if member.node != self._net.node]
            alive = [member for member in others if member.state is MemberState.ALIVE and self._net.link(member.node)]
            self._acquaintances.keep([address for member in alive for address in member.core.addresses[:1]])

    def _renewed(self, certified: Certified) -> None:
        """Use a new certificate: on the disk first, then on the wire, then in what the mesh is told."""
        self._folder.install_certificate(certified.chain)
        self._net.renew(replace(self._identity.credentials, chain=certified.chain))
        self._introduce(certified)

    def _introduce(self, certified: Certified) -> None:
        """Tell the mesh who and where this node is."""
        addresses = self._config.listen.advertise or advertised(self._net.bound)
        core = Core(list(certified.chain), self._identity.facts.node_name, list(addresses), __version__)
        self._membership.publish(core, certified)
        self._directory.introduce(core, certified)

    # --- what this node lends -------------------------------------------------------------------------------------

    def reload(self) -> None:
        """Read the charter anew, now."""
        self._charter.reload()

    def _charter_of(self, config: NodeConfig) -> CharterConfig:
        """The charter of settings that were read anew; of the rest nothing changes before a restart."""
        if replace(config, charter=self._config.charter) != self._config:
            log.warning("settings_changed", hint="restart the daemon: only the charter takes effect at once")
        return config.charter

    def _charter_changed(self) -> None:
        """Lend what the charter says now."""
        self._bound()
        self._execution.lend(self._lending.lent())
        self._review()

    def _bound(self) -> None:
        """Hold to the charter's bounds what others decide about."""
        charter = self._charter.charter
        self._net.limit_upload(charter.upload_bytes_per_s)
        self._workers.limit_scratch(charter.scratch_bytes)

    def _proved(self) -> None:
        """Go by what the cage keeps."""
        self._cage_known.set()
        self._review()

    def _review(self) -> None:
        """See anew who may have what, and tell the mesh, if it has been told of this node at all."""
        self._execution.review()
        if self._membership.member(self._net.node) is not None:
            self._announce(self._phase)
            self._outflow.flush()

    @property
    def _phase(self) -> Phase:
        return Phase.DRAINING if self._draining.on else Phase.ALIVE

    def _announce(self, phase: Phase) -> None:
        """Tell the mesh what this node lends."""
        offer = self._lending.offer(phase)
        self._membership.publish(offer)
        self._directory.announce(offer)

    def _lend_anew(self) -> None:
        """Lend what there is now, and tell the mesh."""
        self._execution.lend(self._lending.lent())
        self._announce(self._phase)
        self._outflow.flush()

    def _started(self) -> Started:
        facts = self._identity.facts
        return Started(
            facts.node_name,
            facts.mesh_name,
            self._net.bound,
            self._lending.slots,
            self._workers.proved,
        )

    async def _tell_lends(self, on_lends: Callable[[Lends], None]) -> None:
        await self._cage_known.wait()
        on_lends(Lends(self._lending.slots, self._workers.isolation, self._lending.told()))
