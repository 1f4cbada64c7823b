"""Which of a node's GPUs would do for a worker: asked by owners of offers, and by executors of what they lend."""

from collections.abc import Iterable
from typing import Final

from meshd_protocol.limits import MIB
from meshd_protocol.records import Gpu

# A process can use one slice of a card that is cut in slices, whatever it is shown: NVIDIA's driver takes the first.
_SLICE: Final = "MIG-"


def usable(gpus: Iterable[Gpu], count: int, memory_bytes: int) -> list[Gpu]:
    """Those that could be among `count` GPUs of a worker, each with so much memory."""
    return [gpu for gpu in gpus if gpu.memory_bytes >= memory_bytes and (count == 1 or not is_slice(gpu))]


def is_slice(gpu: Gpu) -> bool:
    """Whether it is a part of a card."""
    return gpu.uuid.startswith(_SLICE)


def lacking(gpus: Iterable[Gpu], count: int, memory_bytes: int) -> str:
    """What is wrong with these GPUs for a worker, for people; "" if nothing."""
    all_of_them = list(gpus)
    if len(all_of_them) < count:
        return f"needs {_cards(count)}, it has {len(all_of_them)}"
    found = len(usable(all_of_them, count, memory_bytes))
    if found >= count:
        return ""
    whole = "" if count == 1 else "whole "
    memory = f" with {memory_bytes // MIB} MiB each" if memory_bytes else ""
    sizes = ", ".join(f"{gpu.memory_bytes // MIB}{' (a slice)' if is_slice(gpu) else ''}" for gpu in all_of_them)
    return f"needs {count} {whole}GPU{'' if count == 1 else 's'}{memory}, it has {sizes} MiB"


def _cards(count: int) -> str:
    return f"{count} GPU{'' if count == 1 else 's'}"
