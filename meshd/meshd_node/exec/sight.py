"""What a unit sees of GPUs: run in a worker, by owners that look whether a node has what it offers."""

import ctypes
import uuid
from collections.abc import Callable
from typing import Final, TypeAlias

# Any object with the driver's functions, so that a test needs no GPU.
Driver: TypeAlias = ctypes.CDLL
_LIBRARY: Final = "libcuda.so.1"
_UUID_BYTES: Final = 16


def gpus(load: Callable[[str], Driver] = ctypes.CDLL) -> list[tuple[str, int]]:
    """UUID, without the prefix that says card or slice, and memory in bytes of each GPU that programs here can use.

    By the driver's own library, which every program that computes on a GPU goes through. It makes no context, and so
    takes no memory there.
    """
    try:
        driver = load(_LIBRARY)
    except OSError:
        return []
    count = ctypes.c_int()
    if driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count)):
        return []
    found = (_gpu(driver, index) for index in range(count.value))
    return [gpu for gpu in found if gpu is not None]


def _gpu(driver: Driver, index: int) -> tuple[str, int] | None:
    device, size, name = ctypes.c_int(), ctypes.c_size_t(), (ctypes.c_ubyte * _UUID_BYTES)()
    failed = (
        driver.cuDeviceGet(ctypes.byref(device), index)
        or driver.cuDeviceGetUuid_v2(ctypes.byref(name), device)
        or driver.cuDeviceTotalMem_v2(ctypes.byref(size), device)
    )
    return None if failed else (str(uuid.UUID(bytes=bytes(name))), size.value)
