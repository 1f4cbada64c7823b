"""What the charter goes by, read from a machine made of files."""

import math
import os
from pathlib import Path

import pytest

from meshd_node.charter.config import CharterConfig
from meshd_node.charter.input_devices import InputDevices
from meshd_node.charter.load import OthersLoad
from meshd_node.charter.surroundings import Surroundings


class Machine:
    """A root folder, and a clock."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.now = 10_000.0

    def put(self, path: str, text: str = "", *, touched: float | None = None) -> Path:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        if touched is not None:
            os.utime(file, (touched, 0))
        return file

    def usb(self, name: str, kind: str, protocol: str, urbs: int) -> None:
        interface = f"sys/bus/usb/devices/{name}:1.0/"
        self.put(interface + "bInterfaceClass", kind + "\n")
        self.put(interface + "bInterfaceProtocol", protocol + "\n")
        self.put(f"sys/bus/usb/devices/{name}/urbnum", f"{urbs}\n")

    def cpus(self, busy_ticks: int) -> None:
        self.put("proc/stat", f"cpu  {busy_ticks} 0 0 99999 0 0 0 0 0 0\ncpu0 1 2 3\n")

    def process(self, pid: int, parent: int, ticks: int, reaped: int = 0) -> None:
        self.put(
            f"proc/{pid}/stat", f"{pid} (a ) name) S {parent} 1 1 0 -1 4194560 1 1 1 1 {ticks} 0 {reaped} 0 20 0 1"
        )


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


# --- input --------------------------------------------------------------------------------------------------------


def devices(machine: Machine) -> InputDevices:
    return InputDevices(machine.root, lambda: machine.now)


def test_who_sees_no_device_does_not_know_whether_somebody_sits_there(machine: Machine) -> None:
    """As a service may not."""
    assert devices(machine).idle_s() is None


def test_a_terminal_tells_when_it_was_typed_at(machine: Machine) -> None:
    machine.put("dev/pts/0", touched=9_000)
    machine.put("dev/tty1", touched=9_900)
    machine.put("dev/pts/ptmx", touched=9_999)

    assert devices(machine).idle_s() == 100


def test_a_touch_in_the_future_is_a_clock_that_was_set_back(machine: Machine) -> None:
    machine.put("dev/pts/0", touched=20_000)
    machine.put("dev/pts/1", touched=9_000)

    assert devices(machine).idle_s() == 1_000


@pytest.mark.parametrize(("protocol", "seen"), [("01", 5.0), ("02", 5.0), ("00", None)])
def test_a_usb_keyboard_or_mouse_that_says_something_was_used(
    machine: Machine, protocol: str, seen: float | None
) -> None:
    found = devices(machine)
    machine.usb("1-2", "03", protocol, urbs=100)
    assert found.idle_s() in (math.inf, None), "one look tells nothing"
    machine.usb("1-2", "03", protocol, urbs=104)
    found.idle_s()
    machine.now += 5

    assert found.idle_s() == seen


def test_a_usb_disk_is_no_keyboard(machine: Machine) -> None:
    found = devices(machine)
    for urbs in (1, 2):
        machine.usb("1-3", "08", "01", urbs=urbs)
        assert found.idle_s() is None


def test_a_keyboard_of_a_laptop_interrupts(machine: Machine) -> None:
    found = devices(machine)
    lines = "      CPU0  CPU1\n  1:  {}  7  IO-APIC  1-edge  i8042\n  8:  {}  0  IO-APIC  8-edge  rtc0\n"
    machine.put("proc/interrupts", lines.format(10, 20))
    found.idle_s()
    machine.put("proc/interrupts", lines.format(10, 21))
    assert found.idle_s() == math.inf
    machine.put("proc/interrupts", lines.format(11, 21))

    assert found.idle_s() == 0


# --- load ---------------------------------------------------------------------------------------------------------


def load(machine: Machine) -> OthersLoad:
    return OthersLoad(machine.root, lambda: machine.now, own=lambda: (100,), ticks_per_s=100)


def test_what_meshd_does_itself_is_not_others(machine: Machine) -> None:
    """10 s in which the CPUs were busy for 15 s; 12 s of those were the daemon's and its grandchild's."""
    found = load(machine)
    machine.cpus(0)
    machine.process(100, 1, ticks=0)
    machine.process(101, 100, ticks=0)
    machine.process(102, 101, ticks=0)
    machine.process(200, 1, ticks=0)
    assert found.busy_cpus() is None
    machine.now += 10
    machine.cpus(1_500)
    machine.process(100, 1, ticks=200)
    machine.process(102, 101, ticks=1_000)
    machine.process(200, 1, ticks=300)

    assert found.busy_cpus() == pytest.approx(0.3)


def test_a_worker_that_ended_is_still_ours(machine: Machine) -> None:
    found = load(machine)
    machine.cpus(0)
    machine.process(100, 1, ticks=0)
    machine.process(101, 100, ticks=500)
    found.busy_cpus()
    machine.now += 10
    machine.cpus(1_000)
    (machine.root / "proc/101/stat").unlink()
    (machine.root / "proc/101").rmdir()
    machine.process(100, 1, ticks=0, reaped=1_500)

    assert found.busy_cpus() == 0


def test_only_the_last_minute_counts(machine: Machine) -> None:
    found = load(machine)
    machine.process(100, 1, ticks=0)
    busy = 0
    for second in range(0, 200, 5):
        busy += 1_000 if second < 100 else 0
        machine.cpus(busy)
        last = found.busy_cpus()
        machine.now += 5

    assert last == 0


def test_this_very_machine_can_be_asked() -> None:
    found = Surroundings(Path("/"), lambda: 1e9, lambda: 0.0)
    now = found(CharterConfig(idle_s=1, busy_cpus_max=1.0, disk_free_mib=1))

    assert now.busy_cpus is None
    assert now.disk_free_bytes > 0
    assert now.input_idle_s is None or now.input_idle_s >= 0


def test_a_machine_whose_load_can_not_be_read_has_an_unknown_one(machine: Machine) -> None:
    assert load(machine).busy_cpus() is None


def test_nothing_is_looked_at_that_the_charter_does_not_ask_for(tmp_path: Path) -> None:
    """There is no /proc below this root."""
    now = Surroundings(tmp_path / "gone", lambda: 1e9, lambda: 0.0, root=tmp_path)(CharterConfig())

    assert (now.input_idle_s, now.busy_cpus, now.disk_free_bytes) == (None, None, 0)
