"""Where on a machine the parts of the service lie."""

from pathlib import Path
from typing import Final

from meshd_node.places import SYSTEM_FOLDER

UNITS: Final = Path("/etc/systemd/system")
# Of each file of systemd/, where it goes.
FILES: Final = {
    "meshd.service": UNITS / "meshd.service",
    "meshd.socket": UNITS / "meshd.socket",
    "meshd-exec.service": UNITS / "meshd-exec.service",
    "meshd-exec.socket": UNITS / "meshd-exec.socket",
    "meshd.sysusers": Path("/etc/sysusers.d/meshd.conf"),
    "meshd.tmpfiles": Path("/etc/tmpfiles.d/meshd.conf"),
}
# Besides what the operator adds with `systemctl edit`.
KEY_SETTINGS: Final = UNITS / "meshd.service.d" / "key.conf"
GPU_SETTINGS: Final = (UNITS / "meshd.service.d" / "gpu.conf", UNITS / "meshd-exec.service.d" / "gpu.conf")
SEALED_KEY: Final = Path("/etc/credstore.encrypted/meshd.node.key")
FOLDER: Final = SYSTEM_FOLDER
KEY: Final = FOLDER / "node.key"
ROOT_KEY: Final = FOLDER / "root.key"
CACHE: Final = Path("/var/cache/meshd")
RUNTIME: Final = (Path("/run/meshd"), Path("/run/meshd-exec"))
SOCKETS: Final = ("meshd.socket", "meshd-exec.socket")
USERS: Final = ("meshd", "meshd-exec")
