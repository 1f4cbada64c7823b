"""A unit's payload: one byte that says how to call, then the pickled arguments. Spec: 07-jobs.md, section 3."""

import pickle
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

from meshd_protocol.calls import CallForm
from meshd_protocol.limits import UNIT_BYTES_MAX
from meshd_sdk.pickling import dump

_CALL: Final = bytes([CallForm.CALL])
_MAP: Final = bytes([CallForm.MAP])
# Exactly these types hold nothing that had to be pickled by value, so plain pickle, 20 times faster, is as good.
_PLAIN: Final = frozenset({int, float, bool, str, bytes, type(None)})
_CONTAINERS: Final = frozenset({tuple, list, dict})
# Looking through a longer container costs more than cloudpickle's 5 µs.
_LOOK_THROUGH_MAX: Final = 64


def call_payload(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes:
    """The payload of `function(*args, **kwargs)`; raise what pickling raises, `ValueError` if it is too large."""
    if (not kwargs and _PLAIN.issuperset(map(type, args))) or _is_plain(args, kwargs):
        return _bounded(_CALL + pickle.dumps((args, kwargs), 5))
    return _bounded(dump((args, kwargs), _CALL))


def map_payload(calls: Sequence[tuple[Any, ...]]) -> bytes:
    """The payload of `[function(*args) for args in calls]`."""
    if _PLAIN.issuperset(map(type, chain.from_iterable(calls))):
        return _bounded(_MAP + pickle.dumps(calls, 5))
    return _bounded(dump(calls, _MAP))


def _is_plain(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    return all(type(value) in _PLAIN or _is_flat(value) for value in chain(args, kwargs.values()))


def _is_flat(value: object) -> bool:
    """Whether a tuple, list or dict is short and has nothing but plain values."""
    if type(value) not in _CONTAINERS or len(value) > _LOOK_THROUGH_MAX:  # type: ignore[arg-type]  # all are Sized
        return False
    if isinstance(value, dict):
        return _PLAIN.issuperset(map(type, value)) and _PLAIN.issuperset(map(type, value.values()))
    return _PLAIN.issuperset(map(type, value))  # type: ignore[call-overload]  # a tuple or a list, by its exact type


def _bounded(payload: bytes) -> bytes:
    if len(payload) > UNIT_BYTES_MAX:
        raise ValueError(
            f"the arguments of one unit are {len(payload):,} bytes pickled, {UNIT_BYTES_MAX:,} are allowed: "
            "split them, or put them in a file that the nodes can read"
        )
    return payload
