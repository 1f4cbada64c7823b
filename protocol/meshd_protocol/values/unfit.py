"""What can not travel, where in the value it sits, and what to do about it."""

from typing import Final

_ADVICE: Final = {
    "builtins.function": "return what it computes",
    "builtins.generator": "return list(...) of it",
    "builtins.map": "return list(...) of it",
    "builtins.filter": "return list(...) of it",
    "builtins.zip": "return list(...) of it",
    "builtins.dict_keys": "return list(...) of it",
    "builtins.dict_values": "return list(...) of it",
    "builtins.dict_items": "return list(...) of it",
    "builtins.memoryview": "return bytes(...) of it",
    "builtins.type": "return its name",
    "builtins.module": "return its name",
    "array.array": "return .tolist() or numpy.array(...) of it",
    "collections.deque": "return list(...) of it",
    "collections.OrderedDict": "return dict(...) of it, or a list of its items if their order matters",
    "collections.defaultdict": "return dict(...) of it",
    "collections.Counter": "return dict(...) of it",
    "numpy.matrix": "return numpy.asarray(...) of it",
    "numpy.recarray": "return numpy.asarray(...) of it",
    "numpy.memmap": "return numpy.array(...) of it",
    "numpy.ma.MaskedArray": "return .filled() or (.data, .mask)",
    "pathlib.PosixPath": "return str(...) of it",
    "pandas.DataFrame": "return .to_dict('list') or .to_numpy()",
    "pandas.core.frame.DataFrame": "return .to_dict('list') or .to_numpy()",
    "pandas.core.series.Series": "return .tolist() or .to_numpy()",
    "torch.Tensor": "return .numpy(force=True)",
}
# Enough to find the place; a list that holds itself would fill the line with its 64.
_STEPS_SHOWN: Final = 16
_PLAIN_BASES: Final = (int, float, complex, str, bytes, bytearray, list, tuple, dict, set, frozenset)


class Unfit(Exception):
    """A part of a value can not travel. Each container on the way out adds its step to `steps`."""

    def __init__(self, reason: str) -> None:
        """Start at the part itself."""
        super().__init__(reason)
        self.reason = reason
        self.steps: list[str] = []

    def __str__(self) -> str:
        return f"result{''.join(self.steps[: -_STEPS_SHOWN - 1 : -1])} {self.reason}"


class TooDeep(Unfit):
    """The value nests too deep, or holds itself. Unlike other parts it is never replaced, which could take for ever."""


def unfit_type(value: object) -> Unfit:
    """The refusal of a type that the codec does not carry."""
    kind = type(value)
    return Unfit(f"is of type {type_name(kind)}, which can not travel as a result: {_advice(kind)}")


def type_name(kind: type) -> str:
    """A type as people write it."""
    return kind.__qualname__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"


def _advice(kind: type) -> str:
    advice = _ADVICE.get(f"{kind.__module__}.{kind.__qualname__}")
    if advice is not None:
        return advice
    for base in _PLAIN_BASES:
        if issubclass(kind, base):
            return f"return {base.__name__}(...) of it"
    return "return plain values, numpy arrays, or a dataclass of them"
