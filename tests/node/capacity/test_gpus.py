from pathlib import Path
from types import SimpleNamespace

import pytest

from meshd_node.capacity.gpus import GpuSurvey, load_nvml, survey
from meshd_protocol.records import Gpu

GIB = 1 << 30


class NVMLError(Exception):
    pass


class Card:
    """A card or a slice. `fails` names the call that raises."""

    def __init__(
        self,
        uuid: str,
        fails: str = "",
        slices: "dict[int, Card] | None" = None,
        free: int = 30 * GIB,
        worn: bool | None = None,
    ) -> None:
        self.uuid, self.fails, self.slices, self.free, self.worn = uuid, fails, slices, free, worn


class FakeNvml:
    """A library in which everything can be told to fail, by the names that nvidia-ml-py gives its functions."""

    NVMLError = NVMLError

    def __init__(self, *cards: Card, init_fails: bool = False, count_fails: bool = False) -> None:
        self.cards, self.init_fails, self.count_fails, self.open = cards, init_fails, count_fails, 0

    def nvmlInit(self) -> None:
        if self.init_fails:
            raise NVMLError("Driver/library version mismatch")
        self.open += 1

    def nvmlShutdown(self) -> None:
        self.open -= 1

    def nvmlDeviceGetCount(self) -> int:
        if self.count_fails:
            raise NVMLError("Unknown Error")
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> object:
        return self._ask(self.cards[index], "handle")

    def nvmlDeviceGetUUID(self, card: Card) -> str:
        return self._ask(card, "uuid").uuid

    def nvmlDeviceGetName(self, card: Card) -> bytes:
        self._ask(card, "name")
        return b"NVIDIA A100"

    def nvmlDeviceGetMemoryInfo(self, card: Card) -> object:
        self._ask(card, "memory")
        return SimpleNamespace(total=40 * GIB, free=card.free, used=40 * GIB - card.free)

    def nvmlDeviceGetRemappedRows(self, card: Card) -> list[int]:
        if card.worn is None:
            raise NVMLError("Not Supported")
        return [3, 1, 0, int(card.worn)]

    def nvmlDeviceGetMigMode(self, card: Card) -> list[int]:
        if card.slices is None:
            raise NVMLError("Not Supported")
        return [1, 1]

    def nvmlDeviceGetMaxMigDeviceCount(self, card: Card) -> int:
        return 7

    def nvmlDeviceGetMigDeviceHandleByIndex(self, card: Card, index: int) -> object:
        if index not in card.slices:
            raise NVMLError("Not Found")
        return card.slices[index]

    def _ask(self, card: Card, call: str) -> Card:
        if card.fails == call:
            raise NVMLError("GPU is lost")
        return card


def test_two_cards_are_found_by_their_own_names() -> None:
    nvml = FakeNvml(Card("GPU-1"), Card("GPU-2"))

    cards = tuple(Gpu(uuid, "NVIDIA A100", 40 * GIB) for uuid in ("GPU-1", "GPU-2"))
    assert survey(nvml) == GpuSurvey(cards, (30 * GIB, 30 * GIB))
    assert nvml.open == 0


@pytest.mark.parametrize("call", ["handle", "uuid", "name", "memory"])
def test_a_card_that_is_lost_does_not_hide_the_others(call: str) -> None:
    nvml = FakeNvml(Card("GPU-1"), Card("GPU-2", fails=call), Card("GPU-3"))
    found = survey(nvml)

    assert [gpu.uuid for gpu in found.gpus] == ["GPU-1", "GPU-3"]
    assert found.faults == ("GPU 1 can not be used: GPU is lost",)
    assert nvml.open == 0


def test_a_card_whose_memory_is_worn_out_is_a_fault_and_one_that_was_repaired_is_not() -> None:
    found = survey(FakeNvml(Card("GPU-1", worn=True), Card("GPU-2", worn=False)))

    assert [gpu.uuid for gpu in found.gpus] == ["GPU-2"]
    assert found.faults == ("GPU 0 can not be used: its memory is worn out, and no spare rows are left",)


def test_a_card_that_is_cut_counts_as_its_slices() -> None:
    nvml = FakeNvml(Card("GPU-1", slices={0: Card("MIG-a"), 3: Card("MIG-b")}), Card("GPU-2"))

    assert [gpu.uuid for gpu in survey(nvml).gpus] == ["MIG-a", "MIG-b", "GPU-2"]


@pytest.mark.parametrize("broken", [FakeNvml(init_fails=True), FakeNvml(count_fails=True)])
def test_a_driver_that_does_not_fit_its_library_means_no_gpus_and_a_reason(broken: FakeNvml) -> None:
    found = survey(broken)

    assert found.gpus == ()
    assert len(found.faults) == 1
    assert broken.open == 0


def test_more_cards_than_an_offer_can_name_are_cut_off() -> None:
    assert len(survey(FakeNvml(*(Card(f"GPU-{index}") for index in range(100)))).gpus) == 64


def test_without_a_driver_nothing_is_loaded(tmp_path: Path) -> None:
    assert load_nvml(tmp_path) is None
    assert survey(None) == GpuSurvey()


def test_where_a_driver_is_the_library_has_every_function_that_is_used(tmp_path: Path) -> None:
    """The fake above must not drift from nvidia-ml-py."""
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/nvidiactl").touch()
    nvml = load_nvml(tmp_path)

    assert nvml is not None
    assert all(hasattr(nvml, name) for name in vars(FakeNvml) if name.startswith(("nvml", "NVML")))
