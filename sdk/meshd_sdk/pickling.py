"""Pickles by value whatever another machine could not import: the user's own modules as well as `__main__`.

Which modules those are: every module with Python source outside the standard library and outside site-packages, and
not of meshd itself. So `from mywork import f` works on nodes that never saw mywork.py.
"""

import io
import os
import site
import sys
import sysconfig
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any, Final

_PROTOCOL: Final = 5
_OURS: Final = frozenset({"meshd_protocol", "meshd_node", "meshd_sdk"})
_INSTALLED_NAMES: Final = frozenset({"site-packages", "dist-packages"})

# Re-entrant: an object's own __reduce__ may submit work.
_lock = threading.RLock()
_modules_seen: tuple[int, str | None] = (0, None)
_users_own: list[ModuleType] = []
_installed_folders: tuple[str, ...] = ()


def dump(value: object, prefix: bytes = b"") -> bytes:
    """`prefix` and the pickle of `value`, with cloudpickle; raise what pickling raises."""
    # Imported here since it costs a third of this package's import time, and scripts of builtins never need it.
    import cloudpickle  # noqa: PLC0415

    file = io.BytesIO(prefix)
    file.seek(len(prefix))
    with _by_value(cloudpickle):
        cloudpickle.Pickler(file, protocol=_PROTOCOL).dump(value)
    return file.getvalue()


def is_users_own(module: ModuleType) -> bool:
    """Whether the module is to be carried along, since other machines can not be expected to have it."""
    name, file = getattr(module, "__name__", None), getattr(module, "__file__", None)
    if not isinstance(name, str) or not isinstance(file, str) or not file.endswith((".py", ".pyc")):
        return False  # builtin, frozen, made by hand, or compiled: there is nothing that could travel by value
    if name == "__main__" or name.partition(".")[0] in _OURS:
        return False
    path = os.path.realpath(file)
    return not (path.startswith(_folders()) or _INSTALLED_NAMES.intersection(path.split(os.sep)))


@contextmanager
def _by_value(cloudpickle: Any) -> Iterator[None]:
    """Have cloudpickle carry the user's modules along for one dump, and leave its registry as the user set it."""
    with _lock:
        registered = cloudpickle.list_registry_pickle_by_value()
        ours = [module for module in _own_modules() if module.__name__ not in registered]
        for module in ours:
            cloudpickle.register_pickle_by_value(module)
        try:
            yield
        finally:
            for module in ours:
                cloudpickle.unregister_pickle_by_value(module)


def _renew_lock() -> None:
    """In a fork, the thread that held the lock does not exist."""
    global _lock  # noqa: PLW0603
    _lock = threading.RLock()


def _own_modules() -> list[ModuleType]:
    """The user's modules among those loaded; scanned anew only after an import."""
    global _modules_seen, _users_own  # noqa: PLW0603
    # Dicts keep their order: an import changes the count or, after a removal, the last name.
    seen = (len(sys.modules), next(reversed(sys.modules), None))
    if seen != _modules_seen:
        loaded = list(sys.modules.items())
        _users_own = [m for name, m in loaded if is_users_own(m) and m.__name__ == name]
        _modules_seen = seen
    return [module for module in _users_own if sys.modules.get(module.__name__) is module]


def _folders() -> tuple[str, ...]:
    """Where Python and installed packages live; looked up on the first use, since it reads the build's makefile."""
    global _installed_folders  # noqa: PLW0603
    if not _installed_folders:
        paths = {path for name, path in sysconfig.get_paths().items() if "lib" in name}
        paths.update([os.path.dirname(os.__file__), *site.getsitepackages(), site.getusersitepackages()])
        _installed_folders = tuple(os.path.join(os.path.realpath(path), "") for path in paths if path)
    return _installed_folders


os.register_at_fork(after_in_child=_renew_lock)
