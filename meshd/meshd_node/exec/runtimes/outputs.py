"""How much of what a program leaves may travel."""

from meshd_protocol.limits import PROGRAM_OUTPUT_BYTES_MAX
from meshd_protocol.programs import OutputTooLarge


class Budget:
    """Bytes that may still be brought back."""

    def __init__(self, total: int = PROGRAM_OUTPUT_BYTES_MAX) -> None:
        self._total = total
        self.left = total

    def take(self, count: int, what: str) -> None:
        """Use some; raise `OutputTooLarge` if that is more than is left."""
        if count > self.left:
            raise OutputTooLarge(
                f"{what} exceeds what a unit may return, {self._total} bytes with all its streams and files: "
                "compress it, split the work, or declare fewer outputs"
            )
        self.left -= count
