"""The versions of what this node says of itself: they rise, over restarts and lost disks too."""

from meshd_protocol.records import U32_MAX, Version


class OwnVersions:
    """Versions begin with the boot epoch, which is persisted."""

    def __init__(self, boot_epoch: int) -> None:
        self._last = Version(boot_epoch, 0)

    def following(self) -> Version:
        """What the next one will be, if it is used."""
        return Version(self._last.epoch, self._last.sequence + 1)

    def pass_over(self, version: Version) -> None:
        """Make the next version newer than this one of the same epoch, or than one that was used."""
        self._last = max(self._last, version)

    def outbid(self, newest: Version) -> bool:
        """Whether `newest`, a state of our own, is from before our boot epoch was lost; what is said next is newer."""
        if newest <= self._last or newest.epoch >= U32_MAX:
            return False
        self._last = Version(newest.epoch + 1, 0)
        return True
