"""The memory of a WebAssembly module, as the functions see it that the module calls."""

import ctypes
import struct
from typing import Final

from wasmtime import Caller, Memory

from meshd_node.exec.runtimes.wasm_files import Errno, WasiError

_VECTORS_MAX: Final = 1_024


class Guest:
    """The memory of the module during one call of its: every access is checked against its bounds."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._base = 0
        self._size = -1

    def read(self, at: int, count: int) -> bytes:
        """Bytes of the module's."""
        self._check(at, count)
        return ctypes.string_at(self._base + at, count)

    def write(self, at: int, data: bytes) -> None:
        """Give the module bytes."""
        self._check(at, len(data))
        ctypes.memmove(self._base + at, data, len(data))

    def write_u32(self, at: int, *numbers: int) -> None:
        """Give it numbers of four bytes."""
        self.write(at, struct.pack(f"<{len(numbers)}I", *numbers))

    def write_u64(self, at: int, number: int) -> None:
        """Give it a number of eight bytes."""
        self.write(at, number.to_bytes(8, "little"))

    def vectors(self, at: int, count: int) -> list[tuple[int, int]]:
        """Places and lengths of the parts of a read or a write."""
        if count > _VECTORS_MAX:
            raise WasiError(Errno.INVAL)
        return list(struct.iter_unpack("<II", self.read(at, 8 * count)))

    def gather(self, at: int, count: int) -> bytes:
        """All that is to be written."""
        vectors = self.vectors(at, count)
        if sum(length for _, length in vectors) > self._size:
            raise WasiError(Errno.INVAL)
        return b"".join([self.read(place, length) for place, length in vectors])

    def _check(self, at: int, count: int) -> None:
        if self._size < 0:
            memory = self._caller.get("memory")
            if not isinstance(memory, Memory):
                raise WasiError(Errno.FAULT)
            self._base = ctypes.addressof(memory.data_ptr(self._caller).contents)
            self._size = memory.data_len(self._caller)
        if at + count > self._size:
            raise WasiError(Errno.FAULT)
