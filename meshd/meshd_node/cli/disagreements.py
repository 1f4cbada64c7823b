"""How results that differ look to people: who said what, cut to where they differ."""

from typing import Any, Final

from meshd_sdk.disagreements import Disagreement, Vote, read_disagreement

_BEFORE: Final = 24  # characters shown before the first difference
_SHOWN: Final = 72


def lines_of(told: dict[str, Any]) -> list[str]:
    """One line for each different result: by whom, whether it was believed, what it says around the difference."""
    disagreement = read_disagreement(told, _no_class)
    camps: dict[tuple[bool, str], list[str]] = {}
    for vote in sorted(disagreement.votes, key=lambda vote: not vote.agreed):
        camps.setdefault((vote.agreed, _text(vote)), []).append(vote.name or vote.node[:8])
    excerpts = excerpts_of([text for _, text in camps])
    return [
        f"unit {disagreement.unit}  {_verdict(disagreement, agreed)}  {', '.join(names)}: {text}"
        for ((agreed, _), names), text in zip(camps.items(), excerpts, strict=True)
    ]


def excerpts_of(texts: list[str]) -> list[str]:
    """Texts that differ, cut to the first place where they do."""
    start = max(0, _common(texts) - _BEFORE) if len(texts) > 1 else 0
    return [_cut(text, start) for text in texts]


def _common(texts: list[str]) -> int:
    """How many characters all texts begin with."""
    first, last = min(texts), max(texts)
    return next((at for at, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), min(len(first), len(last)))


def _cut(text: str, start: int) -> str:
    shown = text[start : start + _SHOWN]
    return ("…" if start else "") + shown + ("…" if start + _SHOWN < len(text) else "")


def _verdict(disagreement: Disagreement, agreed: bool) -> str:
    if not disagreement.settled:
        return "undecided"
    return "believed" if agreed else "outvoted"


def _no_class(module: str, qualname: str) -> None:
    """Values are shown, not used: their classes stay names."""


def _text(vote: Vote) -> str:
    if vote.unreadable:
        return f"({vote.unreadable})"
    # `repr` shows control characters by their numbers: a liar does not write to the terminal.
    return f"raised {vote.value!r}" if vote.raised else repr(vote.value)
