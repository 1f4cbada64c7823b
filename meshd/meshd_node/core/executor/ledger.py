"""What this node owes to whom: attempts that were leased and have no end yet. Each leaves here exactly once."""

from collections.abc import Iterable, Iterator
from typing import Final

from meshd_node.core.executor.backlog import Share, key_of
from meshd_node.core.executor.config import ExecutorConfig
from meshd_node.core.executor.effects import GrantCredit
from meshd_node.core.executor.events import LeaseArrived, LeasedWork, Lent, OwnerBound
from meshd_node.core.executor.pace import UNIT_US_MIN, Pace, learn
from meshd_node.core.executor.room import width
from meshd_node.core.executor.step import Step
from meshd_node.core.executor.windows import Account, Resized, Windows
from meshd_node.core.executor.worker import Given
from meshd_protocol.ids import Digest, JobId, NodeId
from meshd_protocol.limits import TRACEBACK_CHARS_MAX
from meshd_protocol.messages.attempts import AttemptResult, AttemptStatus
from meshd_protocol.messages.worker import WorkResult

_RETURNED: Final = AttemptStatus.RETURNED
_RAISED: Final = AttemptStatus.RAISED

Spent = dict[Share, dict[Digest, list[int]]]


class Ledger:
    """Shares and accounts of all owners that are up."""

    def __init__(self, lent: Lent, config: ExecutorConfig) -> None:
        """Owe nothing."""
        self.windows = Windows(lent.slots, config)
        self._lent = lent
        self._pace = Pace()
        self._shares: dict[tuple[NodeId, JobId, int], Share] = {}

    def lend(self, lent: Lent) -> list[Resized]:
        """Share this from now on; return the windows that change by it."""
        self._lent = lent
        return self.windows.lend(lent.slots)

    def account(self, owner: NodeId) -> Account | None:
        """The account of an owner that is up."""
        return self.windows.accounts.get(owner)

    def shares_of(self, owner: NodeId, job: JobId, epoch: int | None) -> list[Share]:
        """What is owed to an owner of a job, in one epoch or in all."""
        if epoch is not None:
            share = self._shares.get((owner, job, epoch))
            return [share] if share else []
        return [share for key, share in self._shares.items() if key[:2] == (owner, job)]

    def bind(self, bound: OwnerBound) -> tuple[GrantCredit, list[Share]]:
        """Note what an owner that is up may have; return its window, and what is owed to it and barred now."""
        account = self.windows.accounts[bound.owner]
        account.bound = bound
        shares = [share for share in self._shares.values() if share.account is account and share.barred]
        return self.windows.grant(account), shares

    def close(self, owner: NodeId) -> list[Share]:
        """Close an owner's account; return what was owed to it."""
        if self.windows.accounts.pop(owner, None) is None:
            return []
        return [share for share in self._shares.values() if share.account.node == owner]

    def lease(self, event: LeaseArrived, account: Account) -> tuple[Share, list[LeasedWork]]:
        """Owe what arrived, without what is owed already: a lease that was sent twice counts once."""
        share = self._open(event, account)
        fresh = {key: work for work in event.units if (key := key_of(work)) not in share.held}
        share.held.update(fresh)
        works = list(fresh.values())
        account.units += len(works)
        account.payload_bytes += sum([len(work.payload) for work in works])
        return share, works

    def end(self, share: Share, works: Iterable[LeasedWork], status: AttemptStatus, detail: str, step: Step) -> None:
        """End attempts without a result; those that nobody wants any more silently."""
        detail = detail[:TRACEBACK_CHARS_MAX]
        for work in works:
            if self.forget(share, work, step.now):
                end = AttemptResult(work.unit, work.attempt, status, b"", 0, detail)
                step.ends.setdefault(share, []).append(end)

    def forget(self, share: Share, work: LeasedWork, now: float) -> bool:
        """Owe no answer any more; False if none was owed."""
        key = key_of(work)
        if key not in share.held:
            return False
        share.held.remove(key)
        self._free(share, [len(work.payload)], now)
        return True

    def answer(self, given: dict[int, Given], results: list[WorkResult], step: Step) -> tuple[Spent, list[Given]]:
        """Take results out of what a worker was given; return what they took, and what was not started.

        Most of a unit's time in this machine goes here, so a run of units of one share pays for its share once.
        """
        spent: Spent = {}
        freed: dict[Share, list[int]] = {}
        handed_back: list[Given] = []
        current: Share | None = None
        for result in results:
            entry = given.pop(result.serial, None)
            if entry is None:
                continue
            share, (unit, attempt, function, payload) = entry
            status = result.status
            if status is not _RETURNED and status is not _RAISED:
                handed_back.append(entry)
                continue
            if share is not current:
                current, held = share, share.held
                times = spent.setdefault(share, {})
                answers = step.results.setdefault(share, [])
                sizes = freed.setdefault(share, [])
            took_us = result.took_us
            if function in times:
                times[function].append(took_us)
            else:
                times[function] = [took_us]
            key = unit << 16 | attempt
            if key in held:
                held.remove(key)
                sizes.append(len(payload))
                answers.append(AttemptResult(unit, attempt, status, result.value, took_us, result.detail))
        for share, lengths in freed.items():
            # A share whose units were all recalled is closed, and another may have its name by now.
            if lengths:
                self._free(share, lengths, step.now)
        return spent, handed_back

    def learn(self, spent: Spent, elapsed_s: float) -> Iterator[Resized]:
        """Remember what units took; yield the windows that change by it.

        A worker runs foreign code and may claim anything, but not that its units took longer than it had them.
        """
        claimed_us = sum([sum(map(sum, functions.values())) for functions in spent.values()])
        scale = min(1.0, elapsed_s * 1e6 / claimed_us) if claimed_us else 1.0
        for share, functions in spent.items():
            for function, times in functions.items():
                spent_us = max(sum(times) * scale, UNIT_US_MIN * len(times))
                learn(share.means, function, len(times), spent_us)
                share.account.learn(len(times), spent_us * share.weight)
        for account in {share.account.node: share.account for share in spent}.values():
            if self.windows.accounts.get(account.node) is account:
                yield from self.windows.adjust(account)

    def _open(self, event: LeaseArrived, account: Account) -> Share:
        key = (event.owner, event.job, event.epoch)
        share = self._shares.get(key)
        if share is None:
            means = self._pace.means(event.job)
            weight = self._lent.slots / width(self._lent, event.tenant.harness)
            share = Share(account, event.job, event.epoch, event.tenant, event.timeout_ms / 1e3, means, weight)
            self._shares[key] = share
        # A job has one tenant: its id is the hash of a manifest that names its submitter and its needs.
        assert share.tenant == event.tenant
        return share

    def _free(self, share: Share, sizes: list[int], now: float) -> None:
        account = share.account
        account.units -= len(sizes)
        account.payload_bytes -= sum(sizes)
        account.idle_since = now
        if not share.held:
            self._shares.pop((account.node, share.job, share.epoch), None)
