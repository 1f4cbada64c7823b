"""The figures as people read them: Markdown, a column a system, a row a measure."""

import statistics
from collections.abc import Iterable, Iterator

from benchmarks.figures import Figure, Outcome, Sizes
from benchmarks.measures import PREPARE, Measure
from benchmarks.peers import Entry

_NOTES = """\
Each cell is the median of the rounds, and in brackets the least and the most. Every figure comes from a process of
its own that opened the system anew; the systems took turns. "-" is what a system does not offer.
"Import" is a whole interpreter that imports it, less a bare one, the median of {imports} each.
Memory is PSS: pages shared with other processes of the machine count in part. Dask's scheduler is in the program.\
"""


def markdown(
    entries: list[Entry],
    measures: list[Measure],
    outcomes: list[Outcome],
    facts: dict[str, str],
    sizes: Sizes,
) -> str:
    """The whole report, ready to be pasted."""
    sections = [
        "\n".join(f"- {name}: {value}" for name, value in facts.items()),
        "\n".join(_table(entries, measures, outcomes, sizes)),
        _NOTES.format(imports=sizes.imports),
        "\n".join(_memory(entries, outcomes)),
        "\n".join(_problems(entries, outcomes)),
    ]
    return "\n\n".join(section for section in sections if section)


def _table(entries: list[Entry], measures: list[Measure], outcomes: list[Outcome], sizes: Sizes) -> Iterator[str]:
    yield f"| | {' | '.join(f'{entry.title} {_version(entry)}'.strip() for entry in entries)} |"
    yield f"|---|{'---|' * len(entries)}"
    for measure in measures:
        cells = [_cell(entry, measure, outcomes, sizes) for entry in entries]
        yield f"| {measure.title}, {measure.unit} | {' | '.join(cells)} |"


def _version(entry: Entry) -> str:
    return entry.version if entry.is_installed else ""


def _cell(entry: Entry, measure: Measure, outcomes: list[Outcome], sizes: Sizes) -> str:
    if not entry.is_installed:
        return "absent"
    mine = [outcome for outcome in outcomes if (outcome.peer, outcome.measure) == (entry.key, measure.key)]
    figures = [outcome.figure for outcome in mine if outcome.figure is not None]
    if not figures:
        if any(outcome.has_failed and outcome.peer == entry.key for outcome in [*mine, *_openings(outcomes)]):
            return "failed"
        return "-" if mine else "not measured"
    failed = sum(outcome.has_failed for outcome in mine)
    parts = [
        _answered(figures, sizes),
        _spread([figure.value for figure in figures if figure.value is not None]),
        f"{failed} of {len(mine)} rounds failed" if failed else "",
    ]
    return ", ".join(part for part in parts if part)


def _openings(outcomes: list[Outcome]) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.measure == PREPARE.key]


def _answered(figures: Iterable[Figure], sizes: Sizes) -> str:
    counts = sorted(figure.answered for figure in figures if figure.answered is not None)
    if not counts:
        return ""
    least, most = counts[0], counts[-1]
    return f"{least if least == most else f'{least} to {most}'} of {sizes.naps}"


def _spread(values: list[float]) -> str:
    if not values:
        return ""
    middle = _number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({_number(min(values))} to {_number(max(values))})"


def _number(value: float) -> str:
    """Three digits that mean something, and no more."""
    size = abs(value)
    if size >= 1_000:
        magnitude = 10 ** (len(str(int(size))) - 3)
        return f"{round(value / magnitude) * magnitude:,}"
    return f"{value:.0f}" if size >= 100 else f"{value:.1f}" if size >= 10 else f"{value:.2f}"


def _memory(entries: list[Entry], outcomes: list[Outcome]) -> Iterator[str]:
    for entry in entries:
        found = [each.figure for each in outcomes if each.peer == entry.key and each.figure and each.figure.parts]
        if found:
            names = dict.fromkeys(name for figure in found for name in figure.parts)
            parts = [
                f"{name} {_number(statistics.median(figure.parts.get(name, 0.0) for figure in found))}"
                for name in names
            ]
            yield f"- Memory of {entry.title}, MB: {', '.join(parts)}."


def _problems(entries: list[Entry], outcomes: list[Outcome]) -> Iterator[str]:
    titles = {entry.key: entry.title for entry in entries}
    for outcome in outcomes:
        if outcome.has_failed:
            yield f"- {titles[outcome.peer]}, {outcome.measure}, round {outcome.round}: {outcome.problem}"
