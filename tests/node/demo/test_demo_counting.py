"""The demo's job counts what Python's own tokenizer would call names."""

import io
import keyword
import tokenize
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshd_node.demo.counting import count_identifiers, most_used
from meshd_node.demo.errors import DemoFailed
from meshd_node.demo.sources import standard_library


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("x = y + x", {"x": 2, "y": 1}),
        ("if x: pass\nelse: return None", {"x": 1}),
        ("match x:\n  case _: type = 1", {"match": 1, "x": 1, "case": 1, "_": 1, "type": 1}),
        ("a  # b c's 'd\ne", {"a": 1, "e": 1}),
        ("'a b' \"c 'd'\" e", {"e": 1}),
        ("'''a\n'b' '' ''' + c + \"\"\"d\"\"\"", {"c": 1}),
        (r"'a\'b' c", {"c": 1}),
        ("'''a \\''' b''' c", {"c": 1}),
        ("'a\\\nb' c", {"c": 1}),
        ("rb'a' Rb'b' f'{c}' u'd' bar", {"bar": 1}),
        ("bar'a'", {"bar": 1}),
        ("1e5 + 0xFF + 1_000j + .5 + x1", {"x1": 1}),
        ("größe = 名前 + größe", {"größe": 2, "名前": 1}),
        ("@decorate\nasync def f(self, *args): await self.g()", {"decorate": 1, "f": 1, "self": 2, "args": 1, "g": 1}),
        ("", {}),
    ],
)
def test_names_are_counted_and_nothing_else(source: str, expected: dict[str, int]) -> None:
    assert count_identifiers(source) == expected


def test_counts_are_those_of_pythons_own_tokenizer() -> None:
    for source in standard_library()[:80:4]:
        assert count_identifiers(source.text) == Counter(_names(source.text)), source.name


def _names(source: str) -> Iterator[str]:
    depth = 0  # newer Pythons look into f-strings, which the demo does not
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        kind = tokenize.tok_name[token.type]
        depth += kind.endswith("STRING_START") - kind.endswith("STRING_END")
        if kind == "NAME" and not depth and not keyword.iskeyword(token.string):
            yield token.string


def test_counts_of_many_files_are_added_up_and_the_most_used_come_first() -> None:
    counts = [{"a": 1, "b": 2}, {"b": 1, "c": 3}, {}]

    assert most_used(counts, 2) == [("b", 3), ("c", 3)]


def test_the_library_is_read_without_its_tests_and_without_what_was_installed_into_it(tmp_path: Path) -> None:
    for name in ("a.py", "b/c.py", "test/d.py", "b/tests/e.py", "site-packages/f.py", "b/__pycache__/g.py", "h.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x = '\xff'")

    assert [source.name for source in standard_library(tmp_path)] == ["a.py", "b/c.py"]


def test_this_pythons_library_has_hundreds_of_files() -> None:
    names = [source.name for source in standard_library()]

    assert len(names) > 500
    assert "asyncio/base_events.py" in names


def test_a_python_without_sources_is_told_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(DemoFailed, match="no sources of its standard library") as caught:
        standard_library(tmp_path)
    assert "apt install" in caught.value.hint


def test_a_source_that_is_gone_is_named(tmp_path: Path) -> None:
    (tmp_path / "gone.py").symlink_to(tmp_path / "nowhere")

    with pytest.raises(DemoFailed, match=r"can not read .*gone\.py"):
        standard_library(tmp_path)
