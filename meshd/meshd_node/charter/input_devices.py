"""When somebody last used this machine: keyboards and mice by what they sent, terminals by when they were read.

The kernel tells no moment of a key press, and the access times of /dev/input do not move. But a USB keyboard or mouse
finishes a transfer only when it has something to say, and one behind the i8042 controller interrupts: both are counted,
for everybody to read. Terminals, also those of remote logins, have an access time of their last input (8 s coarse).
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

# USB's class of human interface devices. Its protocols 1 and 2 are keyboards and mice; 0 is all else, batteries too.
_HID: Final = "03"
_KEYBOARD_OR_MOUSE: Final = frozenset({"01", "02"})
_CONTROLLERS: Final = ("i8042", "i2c_hid", "i2c-hid")
_TERMINALS: Final = ("dev/pts/[0-9]*", "dev/tty[0-9]*", "dev/ttyS[0-9]*", "dev/input/event*", "dev/input/mice")


class InputDevices:
    """Looks at the devices below `root`; each look costs about a millisecond."""

    def __init__(self, root: Path, wall: Callable[[], float]) -> None:
        self._root = root
        self._wall = wall
        self._counts: dict[str, int] = {}
        self._moved_at = -float("inf")

    def idle_s(self) -> float | None:
        """Seconds since the last input, infinite if there was none; None where no device can be seen that would tell.

        Counters tell of input between two looks only, so that the first finds none.
        """
        now = self._wall()
        counts = dict(self._counters())
        if any(self._counts.get(name, count) != count for name, count in counts.items()):
            self._moved_at = now
        self._counts = counts
        touches = list(self._touches())
        if not counts and not touches:
            return None
        # A clock that was set back must not make a touch of the future last for days.
        moments = [moment for moment in (self._moved_at, *touches) if moment <= now]
        return now - max(moments, default=-float("inf"))

    def _counters(self) -> Iterator[tuple[str, int]]:
        for interface in self._root.glob("sys/bus/usb/devices/*:*/bInterfaceProtocol"):
            folder = interface.parent
            if _read(interface) in _KEYBOARD_OR_MOUSE and _read(folder / "bInterfaceClass") == _HID:
                device = folder.name.partition(":")[0]
                urbs = _read(folder.parent / device / "urbnum")
                if urbs.isdecimal():
                    yield device, int(urbs)
        for line in _read(self._root / "proc/interrupts").splitlines():
            if any(name in line for name in _CONTROLLERS):
                number, _, rest = line.partition(":")
                yield number.strip(), sum(int(word) for word in rest.split() if word.isdecimal())

    def _touches(self) -> Iterator[float]:
        for pattern in _TERMINALS:
            for path in self._root.glob(pattern):
                try:
                    found = path.stat()
                except OSError:
                    continue  # it was closed meanwhile
                yield found.st_atime


def _read(path: Path) -> str:
    try:
        return path.read_text(errors="replace").strip()
    except OSError:
        return ""
