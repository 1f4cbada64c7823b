"""One environment that twenty ask for at once, with an installer that takes no package from anywhere."""

import sys
from functools import partial
from pathlib import Path
from typing import Final

import trio

from meshd_node.environments.build import Builder
from meshd_node.environments.config import EnvironmentsConfig
from meshd_node.environments.store import Store
from meshd_protocol.ids import function_digest
from meshd_protocol.locks import Lock

_REQUESTS: Final = 20
_LOCK: Final = f"pack==1.0 --hash=sha256:{'0' * 64}\n"
_INSTALLER: Final = f"""\
#!{sys.executable} -P
import sys
from pathlib import Path
with open(Path(__file__).with_name("asked"), "a") as asked:
    asked.write("once\\n")
target = Path(sys.argv[sys.argv.index("--target") + 1])
(target / "pack").mkdir(parents=True)
(target / "pack/__init__.py").write_text("VALUE = 42\\n")
"""


def builds(folder: Path) -> float:
    """How often it is built."""
    folder.mkdir()
    installer = folder / "uv"
    installer.write_text(_INSTALLER)
    installer.chmod(0o755)
    trio.run(_ask, folder, installer)
    return float(len((folder / "asked").read_text().splitlines()))


async def _ask(folder: Path, installer: Path) -> None:
    store = Store(folder / "environments", Builder(EnvironmentsConfig(), lambda: installer))
    lock = Lock.parse(_LOCK)
    async with trio.open_nursery() as nursery:
        for _ in range(_REQUESTS):
            nursery.start_soon(partial(_use, store, function_digest(lock.encode()), lock))


async def _use(store: Store, digest: bytes, lock: Lock) -> None:
    held = await store.acquire(digest, lock, lambda _: None)
    held.release()
