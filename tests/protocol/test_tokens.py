"""Tokens: any text is one or is refused with what is wrong with it."""

import re

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd_protocol import tokens
from meshd_protocol.errors import LocalProtocolError, MalformedToken
from meshd_protocol.ids import mesh_id
from meshd_protocol.limits import CERTIFICATE_BYTES_MAX, SEEDS_MAX, TOKEN_CHARS_MAX
from meshd_protocol.tokens import Token, decode_token, encode_token

TOKEN = Token(
    "lab", bytes(range(32)), ("10.0.0.1:7423", "[2001:db8::1]:7423"), b"invite" * 80, b"issuer" * 80, b"k" * 32
)
TEXT = encode_token(TOKEN)


def refused(text: str) -> str:
    with pytest.raises(MalformedToken) as caught:
        decode_token(text)
    return str(caught.value)


def test_token_comes_back_as_it_was() -> None:
    assert decode_token(TEXT) == TOKEN
    assert decode_token(TEXT).mesh == mesh_id(TOKEN.root_key)
    assert re.fullmatch(r"meshd1-[A-Za-z0-9_-]+", TEXT)


def test_lines_wrapped_by_a_terminal_do_not_matter() -> None:
    wrapped = "\n".join(TEXT[start : start + 72] for start in range(0, len(TEXT), 72))

    assert decode_token(f"  {wrapped}\r\n") == TOKEN


def test_secret_key_is_not_shown_in_logs() -> None:
    assert "kkkk" not in repr(TOKEN)


def test_largest_token_fits_its_bound() -> None:
    largest = Token(
        "ü" * 64,
        bytes(32),
        ("a" * 80,) * SEEDS_MAX,
        bytes(CERTIFICATE_BYTES_MAX),
        bytes(CERTIFICATE_BYTES_MAX),
        bytes(32),
    )

    assert len(encode_token(largest)) <= TOKEN_CHARS_MAX
    assert decode_token(encode_token(largest)) == largest


@pytest.mark.parametrize("seeds", [(), ("a:1",) * (SEEDS_MAX + 1), ("a" * 81,), ("",)])
def test_no_token_is_printed_that_would_be_refused(seeds: tuple[str, ...]) -> None:
    with pytest.raises(LocalProtocolError, match="token"):
        encode_token(Token(TOKEN.name, TOKEN.root_key, seeds, TOKEN.invite, TOKEN.issuer, TOKEN.key))


@pytest.mark.parametrize("end", [1, 5, 6, 7, 8, 9, 10, 11, 12, 13, 100, len(TEXT) - 1])
def test_token_cut_short_is_called_so(end: int) -> None:
    assert "cut short" in refused(TEXT[:end])


@given(st.integers(0, len(TEXT) - 1))
def test_token_with_one_character_changed_is_called_mistyped(place: int) -> None:
    other = "A" if TEXT[place] != "A" else "B"
    text = TEXT[:place] + other + TEXT[place + 1 :]

    message = refused(text)

    assert "mistyped" in message or place < len(tokens.PREFIX)


@pytest.mark.parametrize("place", [7, 50, 400])
def test_character_of_no_token_is_named(place: int) -> None:
    assert "'ß' can not be in it" in refused(TEXT[:place] + "ß" + TEXT[place + 1 :])


def test_two_tokens_pasted_together_are_refused() -> None:
    assert "goes on" in refused(TEXT + TEXT.removeprefix(tokens.PREFIX))


def test_token_of_another_version_is_called_so() -> None:
    assert "another version (meshd2)" in refused(TEXT.replace("meshd1", "meshd2"))


@pytest.mark.parametrize("text", ["", "hello", "meshd", "MESHD1-AAAA", "x" * 100_000, "meshd join TOKEN"])
def test_other_texts_are_called_what_they_are(text: str) -> None:
    assert "not an invite token" in refused(text) or "cut short" in refused(text)


@pytest.mark.parametrize("body", [b"", b"\xc0", b"\x91" * 2000, msgspec.msgpack.encode(["", b"", b"", [], b"", b""])])
def test_whole_token_with_a_foreign_body_is_refused(body: bytes) -> None:
    """Its checks hold, so nobody mistyped it: somebody made it so."""
    data = tokens._header(len(body)) + body + tokens._check(body)
    text = tokens.PREFIX + tokens.base64.urlsafe_b64encode(data).decode().rstrip("=")

    assert "not understood" in refused(text)


@given(st.one_of(st.text(), st.text().map(lambda tail: tokens.PREFIX + tail)))
def test_any_text_is_a_token_or_is_refused(text: str) -> None:
    refused(text)


@given(st.binary(max_size=400))
def test_any_body_is_a_token_or_is_refused(body: bytes) -> None:
    data = tokens._header(len(body)) + body + tokens._check(body)
    text = tokens.PREFIX + tokens.base64.urlsafe_b64encode(data).decode().rstrip("=")

    refused(text)
