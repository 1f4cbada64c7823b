"""`meshd peers --watch`: a screen that is drawn anew each second, or a line for each change where there is none."""

import gc
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from meshd_node.cli.columns import lay_out
from meshd_node.cli.daemon import asking
from meshd_node.cli.exits import Exit
from meshd_node.cli.keys import keys
from meshd_node.cli.output import Output
from meshd_node.cli.peer_rows import GONE, ID_CHARS, NEWS_S, WITH_SHORT_IDS, Peer, by_interest, name_of, summary
from meshd_node.cli.text import rows_of
from meshd_protocol.messages.local import Ask, Question

if TYPE_CHECKING:
    from rich.text import Text

_PERIOD_S: Final = 1.0
# Summary, a line of room, the header, and "more" below.
_FRAME_LINES: Final = 4

Look = Callable[[], list[Peer]]
# Waits for so long; returns whether to end.
Pause = Callable[[float], bool]


def watch(output: Output, *, as_json: bool) -> int:
    """Show members until somebody ends it: that is what a person is expected to do, and no failure."""
    gc.enable()  # verbs run without, since they end at once; this one does not
    with asking() as session:

        def look() -> list[Peer]:
            return rows_of(session(Ask(Question.PEERS)))

        try:
            if output.width is None or as_json:
                print_changes(output, look, _sleep, as_json=as_json)
            else:
                with keys() as pressed:
                    show(output, look, lambda seconds: pressed(seconds) == "q")
        except KeyboardInterrupt:
            return Exit.OK
    return Exit.OK


# --- lines ------------------------------------------------------------------------------------------------------------


def print_changes(output: Output, look: Look, pause: Pause, *, as_json: bool) -> None:
    """Print who is there, then each change, a line each."""
    seen: dict[str, Peer] = {}
    while True:
        now = {str(peer["node"]): peer for peer in look()}
        for peer, change in changes(seen, now):
            if as_json:
                output.line(json.dumps({"change": change, **peer}))
            else:
                clock = time.strftime("%H:%M:%S")
                output.line(f"{clock}  {peer['node'][:ID_CHARS]}  {name_of(peer)}  {change}")
        seen = now
        if pause(_PERIOD_S):
            return


def changes(before: dict[str, Peer], after: dict[str, Peer]) -> Iterator[tuple[Peer, str]]:
    """What became of each member, in a few words."""
    for node, peer in after.items():
        old = before.get(node)
        if old is None:
            yield peer, str(peer["state"]) if not before else f"new, {peer['state']}"
        elif old["state"] != peer["state"]:
            yield peer, f"{old['state']} → {peer['state']}"
        elif old["record"][0] != peer["record"][0]:
            yield peer, f"restarted, {peer['state']}"
    for node, old in before.items():
        if node not in after:
            yield old, "forgotten"


def _sleep(seconds: float) -> bool:
    time.sleep(seconds)
    return False


# --- the screen -------------------------------------------------------------------------------------------------------


def show(output: Output, look: Look, pause: Pause) -> None:
    """Draw until `pause` says that it is enough."""
    seen = look()  # first of all: without a daemon there is nothing to open a screen for
    with _screen() as draw:
        draw(picture(seen, *output.size, time.time()))
        while not pause(_PERIOD_S):
            draw(picture(look(), *output.size, time.time()))


def picture(peers: list[Peer], width: int, height: int, wall: float) -> "Text":
    """As many members as fit, the most interesting first."""
    from rich.text import Text  # noqa: PLC0415

    room = max(1, height - _FRAME_LINES)
    rows = by_interest(peers, wall)
    # Only what is shown is laid out: a mesh may have thousands.
    listing = lay_out(WITH_SHORT_IDS, rows[:room], width)
    text = Text(no_wrap=True, overflow="crop")
    text.append(summary(peers), "bold")
    text.append(f"   {time.strftime('%H:%M:%S', time.localtime(wall))}, q ends\n\n", "dim")
    text.append(listing.header, "bold")
    for row, line in zip(rows, listing.lines, strict=False):
        text.append("\n" + line, _style(row, wall))
    if len(rows) > room:
        text.append(f"\n… and {len(rows) - room} more", "dim")
    return text


def _style(peer: Peer, wall: float) -> str:
    match peer["state"]:
        case "suspect":
            return "yellow"
        case "draining":
            return "cyan"
        case "dead" | "revoked" if wall - peer["since"] < NEWS_S:
            return "red"
        case state if state in GONE:
            return "dim"
    return "green" if wall - peer["since"] < NEWS_S else ""


@contextmanager
def _screen() -> Iterator[Callable[["Text"], None]]:
    """The terminal's other screen: what was there before comes back at the end."""
    from rich.console import Console  # noqa: PLC0415
    from rich.live import Live  # noqa: PLC0415

    with Live(console=Console(highlight=False, markup=False), screen=True, auto_refresh=False) as live:
        yield lambda text: live.update(text, refresh=True)
