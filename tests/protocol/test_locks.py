"""Locks come from strangers and end in front of an installer: pins pass, whatever else an installer reads does not."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshd_protocol.errors import MalformedMessage
from meshd_protocol.ids import function_digest
from meshd_protocol.limits import LOCK_BYTES_MAX
from meshd_protocol.locks import Lock, Pin
from meshd_protocol.records import Needs, decode_record, encode_record

A, B = "a" * 64, "b" * 64
TEXT = f"""\
# made by a resolver
six==1.17.0 \\
    --hash=sha256:{B} \\
    --hash=sha256:{A}
colorama==0.4.6 ; sys_platform == 'win32' --hash=sha256:{A}
"""


def test_what_a_resolver_writes_has_one_spelling() -> None:
    lock = Lock.parse(TEXT)

    assert lock.pins == (
        Pin("colorama", "0.4.6", "sys_platform == 'win32'", (A,)),
        Pin("six", "1.17.0", "", (A, B)),
    )
    data = lock.encode()
    assert data.decode() == (
        f"colorama==0.4.6 ; sys_platform == 'win32' \\\n    --hash=sha256:{A}\n"
        f"six==1.17.0 \\\n    --hash=sha256:{A} \\\n    --hash=sha256:{B}\n"
    )
    assert Lock.decode(data) == lock
    assert Lock.parse(TEXT.replace("\n", "\r\n")) == lock


@pytest.mark.parametrize(
    "line",
    [
        "six",
        "six>=1.0 --hash=sha256:" + A,
        "six==1.*  --hash=sha256:" + A,
        "six==1.17.0",
        "six==1.17.0 --hash=md5:" + A[:32],
        "six==1.17.0 --hash=sha256:" + A.upper(),
        "Six==1.17.0 --hash=sha256:" + A,
        "six[extra]==1.17.0 --hash=sha256:" + A,
        "six @ https://example.org/six.whl --hash=sha256:" + A,
        "six @ file:///etc/passwd --hash=sha256:" + A,
        "-r /etc/passwd",
        "-e .",
        "--index-url https://example.org/simple",
        "--find-links /tmp",
        f"six==1.17.0 --hash=sha256:{A} --index-url=https://example.org",
        f"six==1.17.0 --index-url=x --hash=sha256:{A}",
        f"six==1.17.0 ; python_version > '3' --index-url x --hash=sha256:{A}",
        f"six==1.17.0 ; python_version > '3' -r x --hash=sha256:{A}",
        f"six==1.17.0 ; python_version > '${{HOME}}' --hash=sha256:{A}",
        f"./six==1.17.0 --hash=sha256:{A}",
        f"six==1.17.0 --hash=sha256:{A} # a remark",
        f"sîx==1.17.0 --hash=sha256:{A}",
        "",
        "# nothing",
    ],
)
def test_what_is_no_pin_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"pin|hash|package|SHA-256"):
        Lock.parse(line)


@pytest.mark.parametrize(
    "data",
    [
        TEXT.encode(),
        Lock.parse(TEXT).encode() + b"\n",
        Lock.parse(TEXT).encode().replace(b"\n", b"\r\n"),
        b"\xff",
        b"",
        b"x" * (LOCK_BYTES_MAX + 1),
    ],
)
def test_a_lock_in_another_spelling_blames_who_sent_it(data: bytes) -> None:
    with pytest.raises(MalformedMessage, match="lock"):
        Lock.decode(data)


@given(st.binary(max_size=400) | st.text(max_size=400).map(lambda text: text.encode("utf-8", "surrogatepass")))
def test_any_bytes_are_a_lock_in_its_only_spelling_or_blame_who_sent_them(data: bytes) -> None:
    try:
        lock = Lock.decode(data)
    except MalformedMessage:
        return
    assert lock.encode() == data


@given(st.text(alphabet="abz=- ;'\"\\\n#0123<>.@:/$\t_", max_size=80))
def test_no_line_of_a_lock_is_anything_but_a_pin_and_hashes(tail: str) -> None:
    """Whatever can be smuggled in behind a pin stands in the marker's words or is refused."""
    try:
        lock = Lock.parse(f"six==1.0 ; {tail} --hash=sha256:{A}")
    except ValueError:
        return
    for line in lock.encode().decode().split("\n"):
        assert line.startswith("    --hash=sha256:") or "==" in line or not line
        assert not any(word.startswith("-") and not word.startswith("--hash=sha256:") for word in line.split())


def test_needs_name_a_lock_by_its_whole_digest_or_none() -> None:
    digest = function_digest(Lock.parse(TEXT).encode())

    assert decode_record(Needs, encode_record(Needs(environment=digest))).environment == digest
    with pytest.raises(ValueError, match="32 bytes"):
        Needs(environment=digest[:20])
    short = encode_record(Needs(environment=digest)).replace(b"\xc4\x20" + digest, b"\xc4\x05" + digest[:5])
    with pytest.raises(MalformedMessage):
        decode_record(Needs, short)
