"""What a worker says of its GPUs, by the driver's own calls: the driver here is made of Python."""

import ctypes

import pytest

from meshd_node.exec import sight


class Driver:
    """Two cards, of which calls can fail."""

    def __init__(self, init: int = 0, broken: int = -1) -> None:
        self.init, self.broken = init, broken

    def cuInit(self, flags: int) -> int:
        return self.init

    def cuDeviceGetCount(self, count: object) -> int:
        count._obj.value = 2
        return 0

    def cuDeviceGet(self, device: object, index: int) -> int:
        device._obj.value = index
        return 100 if index == self.broken else 0

    def cuDeviceGetUuid_v2(self, name: object, device: ctypes.c_int) -> int:
        ctypes.memmove(name._obj, bytes([device.value]) * 16, 16)
        return 0

    def cuDeviceTotalMem_v2(self, size: object, device: ctypes.c_int) -> int:
        size._obj.value = (device.value + 1) << 34
        return 0


def test_every_gpu_is_named_as_nvml_names_it() -> None:
    assert sight.gpus(lambda _: Driver()) == [
        ("00000000-0000-0000-0000-000000000000", 1 << 34),
        ("01010101-0101-0101-0101-010101010101", 2 << 34),
    ]


def test_one_that_does_not_answer_hides_no_other() -> None:
    assert [uuid[:2] for uuid, _ in sight.gpus(lambda _: Driver(broken=0))] == ["01"]


@pytest.mark.parametrize("init", [100, 999])
def test_a_driver_that_finds_no_gpu_shows_none(init: int) -> None:
    assert sight.gpus(lambda _: Driver(init=init)) == []


def test_without_a_driver_there_is_nothing_to_see() -> None:
    def missing(name: str) -> object:
        raise OSError(name)

    assert sight.gpus(missing) == []
