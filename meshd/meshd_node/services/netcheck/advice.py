"""What is to be mended, in words for whoever runs the node: from facts, without looking at anything."""

import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from meshd_node.net.addresses import split_address
from meshd_protocol.limits import CLOCK_SKEW_S
from meshd_protocol.messages.peer import DialOutcome

# A hello's way takes part in the measured difference; beyond this it is the clocks'.
SKEW_NOTED_S: Final = 5.0
# Sessions end at CLOCK_SKEW_S: half of it is time to act.
SKEW_WRONG_S: Final = CLOCK_SKEW_S / 2
# A certificate of 90 days is renewed when 60 are left.
DAYS_NOTED: Final = 50.0
DAYS_WRONG: Final = 14.0
_JUDGED: Final = frozenset({DialOutcome.REACHED, DialOutcome.REFUSED, DialOutcome.SILENT, DialOutcome.FAILED})
_WHY: Final = {
    DialOutcome.REFUSED: "nobody listens there: is it another machine's, or is [listen] in node.toml not what it says?",
    DialOutcome.SILENT: "no answer comes from there: a firewall or a router drops it; open TCP port {port} to the mesh",
    DialOutcome.FAILED: "another node or none answers there: it is not this node's address",
}


@dataclass(frozen=True, slots=True)
class Advice:
    """One line. A `problem` is to be mended; anything else is good to know."""

    problem: bool
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What was found. `ahead_s` is how far the clock of each peer, by name, is before ours."""

    # What each peer that answered says of each address.
    addresses: Mapping[str, Sequence[DialOutcome]]
    asked: int
    others: int
    unreached: int
    sessions: int
    ahead_s: Mapping[str, float]
    certificate_days: float
    issuers: int


def advise(facts: Facts) -> list[Advice]:
    """Problems first."""
    found = [*_sessions(facts), *_addresses(facts), *_clock(facts), *_certificate(facts), *_fragile(facts)]
    return sorted(found, key=lambda advice: not advice.problem)


def _sessions(facts: Facts) -> Iterator[Advice]:
    if not facts.sessions and facts.others:
        text = f"there is a session with none of the {facts.others} other nodes that are known"
        yield Advice(True, f"{text}: see above why dials failed")
    elif not facts.others and facts.unreached:
        text = "no node of the mesh answers where this one looks for it: see above why"
        yield Advice(True, f'{text}; if all have moved, put one into node.toml, above [listen]: seeds = ["HOST:PORT"]')
    elif not facts.others:
        yield Advice(False, "no other node is in the mesh: `meshd invite` prints a token for one")


def _addresses(facts: Facts) -> Iterator[Advice]:
    if not facts.addresses:
        yield Advice(True, "this node tells others no address, so nobody can dial it: set [listen] in node.toml")
        return
    judged = {address: [each for each in said if each in _JUDGED] for address, said in facts.addresses.items()}
    if not any(judged.values()):
        if facts.asked:
            yield Advice(False, "no peer has dialled this node now: they answer seldom, ask again in five minutes")
        return
    reached = [address for address, said in judged.items() if DialOutcome.REACHED in said]
    if not reached:
        text = "no peer can dial this node: it only has the sessions that it dials itself"
        yield Advice(True, f"{text}; an address that is reachable goes into [listen] advertise")
    for address, said in judged.items():
        if said and DialOutcome.REACHED not in said:
            why = _WHY[statistics.mode(said)].format(port=split_address(address)[1])
            yield Advice(not reached, f"{address}: {why}")
        elif any(each is not DialOutcome.REACHED for each in said):
            count = said.count(DialOutcome.REACHED)
            yield Advice(False, f"{address}: only {count} of {len(said)} peers reach it")


def _clock(facts: Facts) -> Iterator[Advice]:
    if not facts.ahead_s:
        return
    usual = statistics.median(facts.ahead_s.values())
    if abs(usual) >= SKEW_NOTED_S and len(facts.ahead_s) > 1:
        side = "behind" if usual > 0 else "ahead of"
        text = f"this machine's clock is {abs(usual):.0f} s {side} most peers', {CLOCK_SKEW_S} s end sessions: set it"
        yield Advice(abs(usual) >= SKEW_WRONG_S, f"{text} (does NTP run?)")
        return
    for name, ahead_s in facts.ahead_s.items():
        if abs(ahead_s - usual if len(facts.ahead_s) > 1 else ahead_s) >= SKEW_NOTED_S:
            side = "ahead of" if ahead_s > 0 else "behind"
            text = f"the clock of {name} is {abs(ahead_s):.0f} s {side} this machine's: set the wrong one"
            yield Advice(abs(ahead_s) >= SKEW_WRONG_S, text)


def _certificate(facts: Facts) -> Iterator[Advice]:
    if facts.certificate_days < DAYS_NOTED:
        text = f"the certificate ends in {max(0, int(facts.certificate_days))} days and was not renewed"
        yield Advice(facts.certificate_days < DAYS_WRONG, f"{text}: is an issuer of the mesh up and reachable?")


def _fragile(facts: Facts) -> Iterator[Advice]:
    if not facts.others:
        return
    if facts.issuers == 0:
        text = "no issuer is in sight: start the node that founded the mesh again"
        yield Advice(False, f"{text}; until then nobody can join, and certificates are not renewed")
    elif facts.issuers == 1:
        yield Advice(False, "only one node can let others in and renew certificates: keep a copy of its folder")
