"""GPUs by NVML. Without a driver there are none, and nothing is loaded to find that out."""

import importlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeAlias, cast

from meshd_protocol.limits import GPUS_MAX, NAME_CHARS_MAX, REASON_CHARS_MAX
from meshd_protocol.records import Gpu

# A card, or a slice of one: only the library can tell what is behind it.
Handle: TypeAlias = object


class Memory(Protocol):
    """What NVML says of a card's memory, in bytes."""

    @property
    def total(self) -> int:
        """All of it."""
        ...

    @property
    def free(self) -> int:
        """What nobody uses now."""
        ...


class Nvml(Protocol):
    """The part of nvidia-ml-py that is used, by its own names. Every call may raise `NVMLError`."""

    NVMLError: type[Exception]

    nvmlInit: Callable[[], None]
    nvmlShutdown: Callable[[], None]
    nvmlDeviceGetCount: Callable[[], int]
    nvmlDeviceGetHandleByIndex: Callable[[int], Handle]
    nvmlDeviceGetUUID: Callable[[Handle], str | bytes]
    nvmlDeviceGetName: Callable[[Handle], str | bytes]
    nvmlDeviceGetMemoryInfo: Callable[[Handle], Memory]
    nvmlDeviceGetRemappedRows: Callable[[Handle], tuple[int, int, int, int]]
    nvmlDeviceGetMigMode: Callable[[Handle], list[int]]
    nvmlDeviceGetMaxMigDeviceCount: Callable[[Handle], int]
    nvmlDeviceGetMigDeviceHandleByIndex: Callable[[Handle, int], Handle]


@dataclass(frozen=True, slots=True)
class GpuSurvey:
    """The GPUs that answer, and in words what is wrong with those that do not. Of GPU i, `free_bytes[i]` are free."""

    gpus: tuple[Gpu, ...] = ()
    free_bytes: tuple[int, ...] = ()
    faults: tuple[str, ...] = ()


def load_nvml(root: Path) -> Nvml | None:
    """The library, if this machine has a driver for it (/dev/dxg is the one of Windows' Linux)."""
    if not any((root / device).exists() for device in ("dev/nvidiactl", "dev/dxg")):
        return None
    return cast("Nvml", importlib.import_module("pynvml"))


def survey(nvml: Nvml | None) -> GpuSurvey:
    """Ask every GPU for its name. One that fails (lost from the bus, memory errors) does not hide the others."""
    if nvml is None:
        return GpuSurvey()
    try:
        with _session(nvml):
            return _survey(nvml)
    except nvml.NVMLError as error:
        return GpuSurvey(faults=(_fault("NVML", error),))


@contextmanager
def _session(nvml: Nvml) -> Iterator[None]:
    nvml.nvmlInit()
    try:
        yield
    finally:
        nvml.nvmlShutdown()


def _survey(nvml: Nvml) -> GpuSurvey:
    found: list[tuple[Gpu, int]] = []
    faults: list[str] = []
    for index in range(min(nvml.nvmlDeviceGetCount(), GPUS_MAX)):
        try:
            card = nvml.nvmlDeviceGetHandleByIndex(index)
            if _is_worn(nvml, card):
                faults.append(f"GPU {index} can not be used: its memory is worn out, and no spare rows are left")
            else:
                found += [_gpu(nvml, part) for part in _parts(nvml, card)]
        except nvml.NVMLError as error:
            faults.append(_fault(f"GPU {index}", error))
    found = found[:GPUS_MAX]
    return GpuSurvey(tuple(gpu for gpu, _ in found), tuple(free for _, free in found), tuple(faults))


def _parts(nvml: Nvml, card: Handle) -> Iterator[Handle]:
    """The card itself or, where it is cut into slices (MIG), those: nothing runs on a card that is cut."""
    if not _is_cut(nvml, card):
        yield card
        return
    for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(card)):
        try:
            part = nvml.nvmlDeviceGetMigDeviceHandleByIndex(card, index)
        except nvml.NVMLError:
            continue  # the places of slices need not be filled in order
        yield part


def _is_cut(nvml: Nvml, card: Handle) -> bool:
    try:
        return nvml.nvmlDeviceGetMigMode(card)[0] == 1
    except nvml.NVMLError:
        return False  # most models know no slices and say so by an error


def _is_worn(nvml: Nvml, card: Handle) -> bool:
    """Whether rows of its memory failed that could not be replaced: what is computed there may be wrong."""
    try:
        *_, failed = nvml.nvmlDeviceGetRemappedRows(card)
    except nvml.NVMLError:
        return False  # most models replace no rows and say so by an error
    return bool(failed)


def _gpu(nvml: Nvml, handle: Handle) -> tuple[Gpu, int]:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    gpu = Gpu(_text(nvml.nvmlDeviceGetUUID(handle)), _text(nvml.nvmlDeviceGetName(handle)), int(memory.total))
    return gpu, int(memory.free)


def _text(name: str | bytes) -> str:
    return (name.decode("utf-8", "replace") if isinstance(name, bytes) else name)[:NAME_CHARS_MAX]


def _fault(what: str, error: Exception) -> str:
    return f"{what} can not be used: {error}"[:REASON_CHARS_MAX]
