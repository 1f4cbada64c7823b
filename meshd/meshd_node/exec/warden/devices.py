"""The device files of GPUs, found without their vendor's library: a warden loads none."""

from pathlib import Path
from typing import Final

_DRIVER: Final = Path("/proc/driver/nvidia/gpus")
_DEV: Final = Path("/dev")
# Whoever uses one GPU uses these.
_SHARED: Final = ("nvidiactl", "nvidia-uvm", "nvidia-uvm-tools")
_UUID: Final = "GPU UUID"
_MINOR: Final = "Device Minor"


def gpu_devices(uuids: tuple[str, ...], driver: Path = _DRIVER) -> tuple[Path, ...]:
    """The device files that a worker with these GPUs needs, and none of the others'."""
    if not uuids:
        return ()
    minors = dict(_read(file) for file in sorted(driver.glob("*/information")))
    own = [f"nvidia{minors[uuid]}" for uuid in uuids if uuid in minors]
    return tuple(_DEV / name for name in (*_SHARED, *own))


def _read(file: Path) -> tuple[str, str]:
    """UUID and number of one GPU, from what its driver writes: `key: value`, one a line."""
    pairs = (line.partition(":") for line in file.read_text(encoding="utf-8", errors="replace").splitlines())
    facts = {key.strip(): value.strip() for key, _, value in pairs}
    return facts.get(_UUID, ""), facts.get(_MINOR, "")
