"""`meshd netcheck`: what of this node others can reach, how clocks differ, and what to mend."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import click

from meshd_node.cli.daemon import asking
from meshd_node.cli.exits import Exit
from meshd_node.cli.output import Output
from meshd_node.cli.text import counted, number, printable, short, table_of
from meshd_protocol.messages.local import Ask, Question

# Peers that live answer sooner.
_SLOW_S: Final = 1.0


@click.command("netcheck")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(as_json: bool) -> int:
    """Have peers dial this node back, look at every session and clock. Exit code 1: something is to be mended."""
    return netcheck(Output(), as_json=as_json)


def netcheck(output: Output, *, as_json: bool) -> int:
    """Ask the daemon, which takes some seconds where a peer does not answer, and print."""
    with asking() as ask, _noted_if_slow(output):
        found = table_of(ask(Ask(Question.NETCHECK)))
    if as_json:
        output.json(found)
    else:
        _print(output, found)
    return Exit.OK if found["ok"] else Exit.FAILED


@contextmanager
def _noted_if_slow(output: Output) -> Iterator[None]:
    """Say what is waited for, if it takes long: a frozen peer is heard of as one that did not answer."""
    timer = threading.Timer(
        _SLOW_S, output.note, ("peers dial this node back; not all have answered, wait 8 s at most",)
    )
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _print(output: Output, found: dict[str, Any]) -> None:
    output.line(f"listening  {', '.join(found['listening'])}")
    for address in found["addresses"]:
        output.line(f"address    {printable(address['address'])}: {_dialled(address['dialled_by'])}")
    _print_peers(output, found["peers"])
    for failure in found["unreached"]:
        who = short(failure["name"]) or failure["node"]
        reason = printable(failure["reason"] if who is None else f"{who}, {failure['reason']}")
        output.line(f"unreached  {reason}, {failure['seconds_ago']:.0f} s ago")
    days, issuers = round(found["certificate_days"]), counted(found["issuers"], "issuer")
    output.line(f"standing   certificate valid for {counted(days, 'day')}, {issuers} in sight")
    for advice in found["advice"]:
        output.line(f"{'MEND' if advice['problem'] else 'note':<10} {printable(advice['text'])}")
    if found["ok"]:
        output.line("fine       nothing has to be mended")


def _dialled(witnesses: list[dict[str, Any]]) -> str:
    """Who says what, those together who say the same."""
    if not witnesses:
        return "no peer was asked"
    said: dict[str, list[str]] = {}
    for witness in witnesses:
        said.setdefault(witness["outcome"], []).append(short(witness["name"]))
    return "; ".join(
        f"{outcome} ({'says' if len(names) == 1 else 'say'} {', '.join(names)})" for outcome, names in said.items()
    )


def _print_peers(output: Output, peers: list[dict[str, Any]]) -> None:
    if not peers:
        output.line("peers      none: there is no session with any other node")
        return
    rows = [
        (
            short(peer["name"]),
            number(peer["rtt_ms"], " ms"),
            f"{peer['clock_ahead_s']:+z.1f} s",
            f"{peer['heard_s']:.0f} s ago",
            printable(peer["dialled"] or "it dialled us"),
        )
        for peer in sorted(peers, key=lambda peer: (peer["name"], peer["node"]))
    ]
    output.table(("PEER", "RTT", "ITS CLOCK", "HEARD", "ADDRESS"), rows)
