"""What a cage with a root of its own looks like from inside."""

from typing import Final

NOBODY: Final = 65_534
HOST_NAME: Final = "cage"
SCRATCH: Final = "/scratch"
# Set over whatever a cage's environment says of these.
ENVIRONMENT: Final = {"HOME": SCRATCH, "TMPDIR": SCRATCH, "PWD": SCRATCH}
# What Landlock leaves open. All that is there may be read: it was chosen when the root was made.
READABLE: Final = ("/",)
WRITABLE: Final = (SCRATCH, "/dev")
