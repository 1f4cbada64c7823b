"""What one unit asks of the node that runs it."""

import math
import re
from typing import Final

from msgspec import Struct

from meshd_protocol.limits import GPUS_MAX

_UNITS: Final = {
    "": 1, "B": 1,
    "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12,
    "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30, "TIB": 1 << 40,
}  # fmt: skip
_SIZE: Final = re.compile(r"\s*(\d{1,15}(?:\.\d{1,9})?)\s*([A-Za-z]{0,3})\s*", re.ASCII)
_CPUS_MAX: Final = 1_000
_MEMORY_BYTES_MAX: Final = 1 << 50


class Resources(Struct, frozen=True):
    """`cpus` may be a fraction (down to 0.001), `memory` is bytes or a text such as "4GiB" or "500MB"."""

    cpus: float = 1.0
    memory: str | int = 0
    gpus: int = 0

    def __post_init__(self) -> None:
        """Raise `TypeError` or `ValueError` for what no node could have."""
        if isinstance(self.cpus, bool) or not isinstance(self.cpus, int | float):
            raise TypeError(f"cpus must be a number, not {self.cpus!r}")
        if not (math.isfinite(self.cpus) and 0.001 <= self.cpus <= _CPUS_MAX):
            raise ValueError(f"cpus must be from 0.001 to {_CPUS_MAX}, not {self.cpus!r}")
        if isinstance(self.gpus, bool) or not isinstance(self.gpus, int):
            raise TypeError(f"gpus must be a whole number, not {self.gpus!r}")
        if not 0 <= self.gpus <= GPUS_MAX:
            raise ValueError(f"gpus must be from 0 to {GPUS_MAX}, not {self.gpus!r}")
        if not 0 <= self.memory_bytes <= _MEMORY_BYTES_MAX:
            raise ValueError(f"memory must be from 0 to 1024TiB, not {self.memory!r}")

    @property
    def cpu_milli(self) -> int:
        """Thousandths of a core, at least one."""
        return max(1, round(self.cpus * 1_000))

    @property
    def memory_bytes(self) -> int:
        """Bytes; 0 asks for nothing in particular."""
        if isinstance(self.memory, str):
            return _parse_size(self.memory)
        if isinstance(self.memory, bool) or not isinstance(self.memory, int):
            raise TypeError(f'memory must be bytes or a text such as "4GiB", not {self.memory!r}')
        return self.memory


def _parse_size(text: str) -> int:
    match = _SIZE.fullmatch(text)
    unit = _UNITS.get(match[2].upper()) if match else None
    if match is None or unit is None:
        raise ValueError(f'memory must be bytes or a text such as "4GiB" or "500MB", not {text!r}')
    return round(float(match[1]) * unit)
