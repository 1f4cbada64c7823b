"""The safe codec: what travels arrives as it was, what can not is named, nothing of the sender's runs."""

import builtins
import collections
import dataclasses
import datetime as dt
import enum
import math
import struct
import subprocess
import sys
import tracemalloc
import zoneinfo
from collections.abc import Callable
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple
from uuid import UUID

import msgpack
import numpy as np
import pytest

from meshd_protocol import values
from meshd_protocol.errors import MalformedValue, ValueRefused
from meshd_protocol.limits import VALUE_DEPTH_MAX


@dataclasses.dataclass(frozen=True)
class Point:
    x: float
    y: float


@dataclasses.dataclass(slots=True)
class Slotted:
    name: str
    parts: list[object] = dataclasses.field(default_factory=list)


@dataclasses.dataclass
class Trap:
    """A class of which no code may run while an instance is read."""

    value: int

    def __init__(self, value: int) -> None:
        raise AssertionError("__init__ ran")

    def __setattr__(self, name: str, value: object) -> None:
        raise AssertionError("__setattr__ ran")


@dataclasses.dataclass
class Guarded:
    value: int = 0

    def _get(self) -> int:
        return 1

    def _set(self, value: int) -> None:
        raise AssertionError("a property's setter ran")


Guarded.value = property(Guarded._get, Guarded._set)  # type: ignore[assignment,method-assign]


class Pair(NamedTuple):
    first: object
    second: object


class Colour(enum.Enum):
    RED = 1
    SCARLET = RED  # an alias
    BLUE = "b"


class Permission(enum.Flag):
    READ = 1
    WRITE = 2


class Narrated(ValueError):
    def __init__(self, code: int, story: str) -> None:
        super().__init__(f"{code}: {story}")
        self.code = code


class Fussy(Exception):
    def __new__(cls, *arguments: object) -> "Fussy":
        if arguments and arguments[0] == "poisoned":
            raise AssertionError("__new__ ran")
        return super().__new__(cls, *arguments)

    def __init__(self, *arguments: object) -> None:
        if arguments and arguments[0] == "poisoned":
            raise AssertionError("__init__ ran")


class FileProblem(OSError):
    def __init__(self, path: str) -> None:
        super().__init__(13, "not yours", path)


def here(module: str, qualname: str) -> type | None:
    """What a program allows: the builtins and the classes of this file."""
    for name, place in (("builtins", vars(builtins)), (__name__, globals())):
        if module == name:
            found = place.get(qualname)
            return found if isinstance(found, type) else None
    return None


def nested(levels: int) -> object:
    value: object = None
    for _ in range(levels):
        value = [value]
    return value


PLAIN = [
    None, True, False, 0, 1, -1, 127, 128, -32, -33, 1 << 32, (1 << 64) - 1, -(1 << 63), 1 << 64, -(1 << 63) - 1,
    1 << 2000, -(1 << 2000), 0.0, -0.0, 1.5, math.inf, -math.inf, math.nan, 5e-324, "", "a", "grüße", "\U0001f600",
    "x" * 70_000, b"", b"\xff" * 300, bytearray(b"abc"), complex(1, -0.0), complex(math.nan, 2), [], [1, 2, 3],
    [1, "a", None, True, b"b", 1.5], [1.5, math.nan], ["ä"] * 40, [[1], [2, [3]]], (), (1, (2,), [3]), {},
    {"b": 1, "a": [2]}, {1: "a", "1": "b", None: 2, (1, 2): 3, b"k": 4}, set(), {1, 2.5, "a", (1,)},
    frozenset({frozenset({1})}), range(10),
    range(0, 10**30, 7), slice(None, 3, -1), list(range(1000)), [1 << 70], {"rows": [(1, 2.0), (3, 4.0)]},
]  # fmt: skip
STANDARD = [
    dt.date(1, 1, 1), dt.date(9999, 12, 31), dt.time(23, 59, 59, 999_999), dt.time(1, tzinfo=dt.UTC),
    dt.datetime(2026, 3, 29, 2, 30, fold=1), dt.datetime(2026, 1, 1, tzinfo=dt.UTC),
    dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=-5, microseconds=3))),
    dt.datetime(2026, 1, 1, tzinfo=dt.timezone(dt.timedelta(hours=2), "CEST")),
    dt.datetime(2026, 7, 1, tzinfo=zoneinfo.ZoneInfo("UTC")), dt.timedelta(-1, 5, 7), dt.timedelta.max,
    Decimal("1.50"), Decimal("-0E-7"), Decimal("1E+400"), Decimal("NaN123"), Decimal("-Infinity"), Fraction(-3, 7),
    Fraction(1 << 80, 3), UUID(int=7),
]  # fmt: skip
INSTANCES = [
    Point(1.0, 2.0), Slotted("a", [Point(0.0, -0.0), {"k": (1,)}]), Pair(1, [2]), Colour.BLUE, Permission.WRITE,
    {Point(1.0, 2.0): 1}, [Pair(Colour.RED, None)],
]  # fmt: skip
ARRAYS = [
    np.arange(6.0).reshape(2, 3), np.arange(6.0).reshape(2, 3).T, np.zeros(0), np.zeros((0, 3), np.int8), np.array(5),
    np.array([1, 2], ">i4"), np.array(["a", "bcd"]), np.array([b"a", b""]), np.array([True, False]),
    np.array([np.nan, 1.0], np.float16), np.array([1j, complex(np.nan, 1)], np.complex64),
    np.array(["2026-01-01", "NaT"], "M8[ms]"), np.array([1, 2], "m8[25s]"), np.zeros(2, "V3"),
    np.arange(10)[::-2], np.ones((1, 1, 1, 1), np.uint64), np.ones((2, 2), order="F"),
    np.array([(1, (2.0, 3.0), (4, b"x"))], [("a", ">i2"), ("b", "f8", (2,)), ("c", [("d", "i1"), ("e", "S4")])]),
]  # fmt: skip
SCALARS = [
    np.float64(1.5), np.float32(-0.0), np.int8(-1), np.uint64(1 << 63), np.bool_(True), np.str_("ä"), np.str_(""),
    np.bytes_(b"x"), np.datetime64("2026-01-01"), np.timedelta64(3, "h"), np.complex128(1j),
]  # fmt: skip


@pytest.mark.parametrize("value", [*PLAIN, *STANDARD, *INSTANCES, *SCALARS], ids=lambda value: repr(value)[:40])
def test_value_arrives_with_its_type(value: object) -> None:
    encoded = values.encode(value)
    arrived = values.decode(encoded, here)

    assert type(arrived) is type(value)
    assert repr(arrived) == repr(value) or arrived == value
    assert values.encode(arrived) == encoded


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.dtype.str}{array.shape}")
def test_array_arrives_writable_in_c_order_and_little_endian(array: "np.ndarray") -> None:  # type: ignore[type-arg]
    encoded = values.encode(array)
    arrived = values.decode(encoded)

    assert isinstance(arrived, np.ndarray)
    assert arrived.shape == array.shape
    assert arrived.flags.writeable
    assert arrived.flags.c_contiguous
    assert arrived.tobytes() == np.ascontiguousarray(array, dtype=arrived.dtype).tobytes()
    assert values.encode(arrived) == encoded


def test_values_that_python_takes_for_equal_have_bytes_of_their_own() -> None:
    encodings = [values.encode(value) for value in (1, 1.0, True, complex(1), Decimal(1), Fraction(1), np.int64(1))]
    encodings += [
        values.encode(value) for value in (0.0, -0.0, Decimal("1.0"), [1], (1,), {1}, b"1", "1", bytearray(b"1"))
    ]

    assert len(set(encodings)) == len(encodings)


def test_order_of_filling_does_not_show_in_a_dict_or_a_set() -> None:
    """Two copies of a unit agree though their dictionaries were filled in another order; ordered data is a list."""
    assert values.encode({"b": 1, "a": 2}) == values.encode({"a": 2, "b": 1})
    assert values.encode({"aa", "b"}) == values.encode({"b", "aa"})
    assert list(values.decode(values.encode({"bb": 1, "a": 2, "c": 3}))) == ["a", "c", "bb"]  # type: ignore[call-overload]


def test_every_nan_is_one_nan() -> None:
    other = -math.nan

    assert values.encode(other) == values.encode(math.nan) == bytes.fromhex("cb7ff8000000000000")
    assert values.encode([1, other, "x"]) == values.encode([1, math.nan, "x"])
    assert values.encode(np.array([other])) == values.encode(np.array([math.nan]))
    assert values.encode(np.array([complex(1, other)])) == values.encode(np.array([complex(1, math.nan)]))


def test_padding_of_a_structured_array_does_not_show() -> None:
    kind = np.dtype([("a", "i1"), ("b", "f8")], align=True)
    clean, dirty = np.zeros(2, kind), np.frombuffer(b"\xaa" * 2 * kind.itemsize, kind).copy()
    dirty["a"], dirty["b"] = 0, 0

    assert values.encode(clean) == values.encode(dirty)


def test_boolean_made_of_any_other_byte_is_true() -> None:
    assert values.encode(np.array([7, 0], np.uint8).view(bool)) == values.encode(np.array([True, False]))


REFUSED: list[tuple[Callable[[], object], str]] = [
    (object, "result is of type object"),
    (lambda: {"rows": [1, 2, 3, object()]}, "result['rows'][3] is of type object"),
    (lambda: Slotted("a", [{"q": object()}]), "result.parts[0]['q'] is of type object"),
    (lambda: {(1, object()): 2}, "result.keys()[1] is of type object"),
    (lambda: collections.OrderedDict(a=1), "return dict(...) of it"),
    (lambda: collections.Counter("aab"), "return dict(...) of it"),
    (lambda: collections.deque([1]), "return list(...) of it"),
    (lambda: (i for i in ()), "return list(...) of it"),
    (lambda: here, "return what it computes"),
    (lambda: Point, "return its name"),
    (lambda: type("Number", (int,), {})(3), "return int(...) of it"),
    (lambda: type("Text", (str,), {})("a"), "return str(...) of it"),
    (lambda: memoryview(b"a"), "return bytes(...) of it"),
    (lambda: Permission.READ | Permission.WRITE, "return its .value"),
    (lambda: "\ud800", "lone surrogate"),
    (lambda: ["a", "\ud800"], "result[1] is text with a lone surrogate"),
    (lambda: 1 << 8 * 4096, "4096 are allowed"),
    (lambda: {math.nan: 1, float("nan"): 2}, "one encoding"),
    (lambda: dt.datetime(2026, 1, 1, tzinfo=type("Zone", (dt.tzinfo,), {})()), "use datetime.timezone"),
    (lambda: np.array([object()]), "array of type object"),
    (lambda: np.longdouble(1), "convert it with .astype"),
    (lambda: np.ma.masked_array([1]), "return .filled()"),
    (lambda: np.zeros((0, 1 << 40)), "empty array"),
    (lambda: np.zeros(2, "V0"), "can not travel"),
    (lambda: nested(VALUE_DEPTH_MAX + 1), "nested deeper than 64 levels"),
]  # fmt: skip


@pytest.mark.parametrize(("make", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_what_can_not_travel_is_named_with_its_place_and_a_remedy(make: Callable[[], object], words: str) -> None:
    with pytest.raises(ValueRefused) as caught:
        values.encode(make())

    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 300


def test_class_of_a_function_can_not_travel() -> None:
    @dataclasses.dataclass
    class Local:
        x: int

    with pytest.raises(ValueRefused, match="define the class at the top of its module"):
        values.encode(Local(1))


def test_list_that_holds_itself_is_refused_in_one_short_line() -> None:
    endless: list[object] = []
    endless.append(endless)

    with pytest.raises(ValueRefused, match="holds itself"):
        values.encode(endless)


def test_deepest_value_travels() -> None:
    assert values.decode(values.encode(nested(VALUE_DEPTH_MAX))) == nested(VALUE_DEPTH_MAX)


def test_dataclass_is_read_without_running_its_code() -> None:
    trap = object.__new__(Trap)
    object.__setattr__(trap, "value", 3)

    arrived = values.decode(values.encode(trap), here)

    assert isinstance(arrived, Trap)
    assert arrived.value == 3


def test_field_behind_a_property_is_refused_instead_of_set() -> None:
    with pytest.raises(ValueRefused, match="property"):
        values.decode(values.encode(object.__new__(Guarded)), here)


def test_unknown_class_is_refused_by_name() -> None:
    with pytest.raises(ValueRefused, match=r"Point.*import"):
        values.decode(values.encode(Point(1.0, 2.0)))


def test_other_version_of_a_dataclass_is_refused_with_both_lists_of_fields() -> None:
    encoded = values.encode(Point(1.0, 2.0))

    with pytest.raises(ValueRefused, match=r"\['name', 'parts'\] here and \['x', 'y'\]"):
        values.decode(encoded, lambda module, qualname: Slotted)


@pytest.mark.parametrize("value", [Point(1.0, 2.0), Pair(1, 2), Colour.RED])
@pytest.mark.parametrize("other", [int, Slotted, tuple, Permission, dict, type, ValueError])
def test_class_of_another_sort_is_refused(value: object, other: type) -> None:
    with pytest.raises(ValueRefused):
        values.decode(values.encode(value), lambda module, qualname: other)


def test_nothing_but_numpy_is_imported_for_a_value() -> None:
    """The codec is loaded by daemons and programs that never see an array; and no value may choose a module."""
    program = (
        "import sys; from meshd_protocol import values; "
        "assert 'numpy' not in sys.modules and 'zoneinfo' not in sys.modules; before = set(sys.modules); "
        f"values.decode(bytes.fromhex({values.encode({'a': [(1,), {2}]}).hex()!r})); "
        "assert set(sys.modules) == before"
    )

    subprocess.run([sys.executable, "-c", program], check=True, timeout=50)


# --- exceptions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"), KeyError("k"), ZeroDivisionError(), Narrated(3, "once"), SystemExit(3), StopIteration(5),
        ImportError("no", name="m"), FileNotFoundError(2, "no such", "f.txt"), FileProblem("secret"),
        UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad"), SyntaxError("m", ("f", 1, 2, "text")),
        ExceptionGroup("several", [ValueError(1), ExceptionGroup("inner", [KeyError(2)])]),
    ],
    ids=repr,
)  # fmt: skip
def test_exception_arrives_with_its_type_words_and_attributes(error: BaseException) -> None:
    error.add_note("it was late")
    arrived = values.decode_exception(values.encode_exception(error), here)

    assert type(arrived) is type(error)
    assert str(arrived) == str(error)
    assert repr(arrived.args) == repr(error.args)
    assert vars(arrived).keys() == vars(error).keys()
    assert arrived.__notes__ == ["it was late"]  # type: ignore[attr-defined]


def test_file_name_of_an_os_error_arrives() -> None:
    arrived = values.decode_exception(values.encode_exception(FileProblem("f.txt")), here)

    assert isinstance(arrived, FileProblem)
    assert (arrived.errno, arrived.strerror, arrived.filename) == (13, "not yours", "f.txt")


def test_exception_is_made_without_running_its_code() -> None:
    error = BaseException.__new__(Fussy, "poisoned")

    arrived = values.decode_exception(values.encode_exception(error), here)

    assert type(arrived) is Fussy
    assert arrived.args == ("poisoned",)


def test_unknown_exception_arrives_as_remote_error_in_words() -> None:
    encoded = values.encode_exception(Narrated(3, "once"))
    arrived = values.decode_exception(encoded, lambda module, qualname: None)

    assert isinstance(arrived, values.RemoteError)
    assert str(arrived) == f"{__name__}.Narrated: 3: once"


@pytest.mark.parametrize("other", [int, Point, UnicodeDecodeError, ExceptionGroup])
def test_exception_whose_class_does_not_take_its_arguments_arrives_as_remote_error(other: type) -> None:
    arrived = values.decode_exception(values.encode_exception(ValueError("x")), lambda module, qualname: other)

    assert isinstance(arrived, values.RemoteError)
    assert str(arrived) == "ValueError: x"


def test_exception_tells_of_arguments_that_could_not_travel() -> None:
    error = ValueError("bad", object(), "\ud800")
    error.open = here  # type: ignore[attr-defined]
    arrived = values.decode_exception(values.encode_exception(error), here)

    assert arrived.args == ("bad", "<object>", "<str>")
    assert not hasattr(arrived, "open")


def test_exception_with_an_unknown_class_among_its_arguments_still_arrives() -> None:
    arrived = values.decode_exception(values.encode_exception(ValueError(Point(1.0, 2.0))), lambda module, name: None)

    assert isinstance(arrived, values.RemoteError)
    assert "Point" in str(arrived)


def test_exception_that_holds_itself_twice_is_encoded_at_once() -> None:
    error = ValueError()
    error.args = (error, error)

    assert len(values.encode_exception(error)) < 200


def test_remote_traceback_is_the_cause() -> None:
    arrived = values.decode_exception(values.encode_exception(ValueError("x")), here, "Traceback: line 1")

    assert isinstance(arrived.__cause__, values.RemoteTraceback)
    assert "Traceback: line 1" in str(arrived.__cause__)


def test_value_in_place_of_an_exception_is_the_senders_fault() -> None:
    with pytest.raises(MalformedValue, match="should send an exception"):
        values.decode_exception(values.encode("no"), here)


# --- hostile bytes ------------------------------------------------------------------------------------------------


def test_announced_lengths_are_not_believed_before_their_items_came() -> None:
    """1,000 nested arrays that each announce a million items would allocate gigabytes."""
    hostile = b"\xdd\x00\x0f\x00\x00" * 400 + bytes(1 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(MalformedValue):
            values.decode(hostile)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 8 * len(hostile)


def test_keys_of_one_hash_are_refused_before_they_cost_quadratic_time() -> None:
    modulus = (1 << 61) - 1
    same = [modulus * (1 << 64) * i for i in range(1, 66)]

    assert len(values.decode(values.encode(dict.fromkeys(same[:64])))) == 64  # type: ignore[arg-type]
    for hostile in (dict.fromkeys(same), set(same), frozenset((key,) for key in same)):
        with pytest.raises(MalformedValue, match="more than 64 keys or items of a set have the same hash"):
            values.decode(values.encode(hostile))


def test_powers_of_two_are_keys_though_each_61st_has_the_same_hash() -> None:
    for powers in ({1 << k: k for k in range(3_000)}, {2.0**k: k for k in range(-1_000, 1_000)}):
        assert values.decode(values.encode(powers)) == powers


def test_map_of_colliding_timestamps_does_not_hang_its_reader(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(msgpack.Timestamp, "__hash__", lambda _: pytest.fail("a table of timestamps is built"))
    keys = [b"\xc7\x0c\xff" + struct.pack(">Iq", nanoseconds, 5) for nanoseconds in range(100)]

    with pytest.raises(MalformedValue, match="timestamp"):
        values.decode(b"\xde" + len(keys).to_bytes(2, "big") + b"".join(key + b"\xc0" for key in keys))


@pytest.mark.parametrize("wrap", [
    lambda value: (value,),
    slice,
    lambda value: Point(value, 0.0),
    ValueError,
])  # fmt: skip
def test_value_in_63_containers_takes_no_more_memory_than_a_small_multiple(wrap: Callable[[object], object]) -> None:
    value: object = bytes(1 << 20)
    for _ in range(VALUE_DEPTH_MAX - 1):
        value = wrap(value)
    encoded = values.encode(value)
    del value

    tracemalloc.start()
    try:
        arrived = values.decode(encoded, here)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert values.encode(arrived) == encoded
    assert peak < 8 * len(encoded)
