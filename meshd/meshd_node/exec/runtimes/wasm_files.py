"""The files of one run of a WebAssembly module, in memory: nothing of the machine's shows, not even a file's age.

Errors are those of WASI. Every file counts what it holds, and the folder it is in some bytes for each entry.
"""

from collections.abc import Iterable, Iterator
from enum import IntEnum
from itertools import count
from typing import Final, TypeAlias

from meshd_protocol.limits import WASM_FILES_BYTES_MAX
from meshd_protocol.programs import File

# What an entry costs beside its bytes: without it, 100 million empty files were within the bound.
_ENTRY_BYTES: Final = 512
_NAME_BYTES_MAX: Final = 255
_PATH_BYTES_MAX: Final = 4096


class Errno(IntEnum):
    """The error numbers of WASI preview 1 that occur here."""

    BADF = 8
    EXIST = 20
    FAULT = 21
    INVAL = 28
    ISDIR = 31
    MFILE = 33
    NAMETOOLONG = 37
    NOENT = 44
    NOSPC = 51
    NOSYS = 52
    NOTDIR = 54
    NOTEMPTY = 55
    NOTSUP = 58
    SPIPE = 70
    NOTCAPABLE = 76


class WasiError(Exception):
    """A call of the module's failed, which it is told by number."""

    def __init__(self, number: Errno) -> None:
        super().__init__(number)
        self.number = number


class Regular:
    """A file."""

    def __init__(self, number: int, data: bytes = b"") -> None:
        self.number = number
        self.data = bytearray(data)


class Folder:
    """A folder; its entries are listed in the order in which they were made."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.entries: dict[str, Node] = {}


Node: TypeAlias = Regular | Folder


class FileTree:
    """All files of a run."""

    def __init__(self, files: Iterable[File], room: int = WASM_FILES_BYTES_MAX) -> None:
        self._numbers = count(1)
        self._room = room
        self.root = Folder(self._number())
        for file in files:
            *parents, name = file.path.split("/")
            folder = self.root
            for parent in parents:
                folder = self._subfolder(folder, parent)
            self.use(len(file.data))
            folder.entries[name] = Regular(self._number(), file.data)

    def _subfolder(self, folder: Folder, name: str) -> Folder:
        below = folder.entries.get(name)
        if below is None:
            below = folder.entries[name] = Folder(self._number())
        assert isinstance(below, Folder), "no input's path goes through another input"
        return below

    def use(self, count_: int) -> None:
        """Take so many bytes of room, or give some back."""
        if count_ > self._room:
            raise WasiError(Errno.NOSPC)
        self._room -= count_

    def regular_files(self) -> Iterator[tuple[str, Regular]]:
        """Every file with its path, sorted."""
        waiting: list[tuple[str, Folder]] = [("", self.root)]
        found: dict[str, Regular] = {}
        while waiting:
            prefix, folder = waiting.pop()
            for name, node in folder.entries.items():
                if isinstance(node, Folder):
                    waiting.append((f"{prefix}{name}/", node))
                else:
                    found[prefix + name] = node
        yield from sorted(found.items())

    # --- by path --------------------------------------------------------------------------------------------------

    def find(self, folder: Folder, path: bytes) -> Node:
        """What lies at a path below a folder."""
        parents, name = self._resolve(folder, path)
        if name == ".":
            return parents[-1]
        node = parents[-1].entries.get(name)
        if node is None:
            raise WasiError(Errno.NOENT)
        if path.endswith(b"/") and not isinstance(node, Folder):
            raise WasiError(Errno.NOTDIR)
        return node

    def make_file(self, folder: Folder, path: bytes) -> Regular:
        """A new, empty file."""
        parent, name = self._vacant(folder, path)
        if path.endswith(b"/"):
            raise WasiError(Errno.ISDIR)
        made = parent.entries[name] = Regular(self._number())
        return made

    def make_folder(self, folder: Folder, path: bytes) -> None:
        """A new, empty folder."""
        parent, name = self._vacant(folder, path)
        parent.entries[name] = Folder(self._number())

    def remove_file(self, folder: Folder, path: bytes) -> None:
        """Take a file away. Who has it open keeps it, and its bytes count until the end."""
        parents, name = self._resolve(folder, path)
        if isinstance(self.find(folder, path), Folder):
            raise WasiError(Errno.ISDIR)
        del parents[-1].entries[name]

    def remove_folder(self, folder: Folder, path: bytes) -> None:
        """Take an empty folder away."""
        parents, name = self._resolve(folder, path)
        node = self.find(folder, path)
        if not isinstance(node, Folder):
            raise WasiError(Errno.NOTDIR)
        if name == ".":
            raise WasiError(Errno.INVAL)
        if node.entries:
            raise WasiError(Errno.NOTEMPTY)
        del parents[-1].entries[name]

    def rename(self, folder: Folder, path: bytes, to_folder: Folder, to_path: bytes) -> None:
        """Move a file or a folder; a file in the way is replaced, as is an empty folder by a folder."""
        parents, name = self._resolve(folder, path)
        to_parents, to_name = self._resolve(to_folder, to_path)
        node = self.find(folder, path)
        if "." in (name, to_name) or node in to_parents:
            raise WasiError(Errno.INVAL)
        replaced = to_parents[-1].entries.get(to_name)
        if replaced is node:
            return
        if isinstance(replaced, Folder):
            if not isinstance(node, Folder):
                raise WasiError(Errno.ISDIR)
            if replaced.entries:
                raise WasiError(Errno.NOTEMPTY)
        elif replaced is not None and isinstance(node, Folder):
            raise WasiError(Errno.NOTDIR)
        del parents[-1].entries[name]
        to_parents[-1].entries[to_name] = node

    def _number(self) -> int:
        """The number of a new file or folder, whose entry is counted."""
        self.use(_ENTRY_BYTES)
        return next(self._numbers)

    def _vacant(self, folder: Folder, path: bytes) -> tuple[Folder, str]:
        parents, name = self._resolve(folder, path)
        if name == "." or name in parents[-1].entries:
            raise WasiError(Errno.EXIST)
        return parents[-1], name

    def _resolve(self, folder: Folder, path: bytes) -> tuple[list[Folder], str]:
        """The folders down to the last part of a path, and that part: "." if the path means the last folder itself."""
        if len(path) > _PATH_BYTES_MAX:
            raise WasiError(Errno.NAMETOOLONG)
        if path.startswith(b"/"):
            raise WasiError(Errno.NOTCAPABLE)
        try:
            parts = [part for part in path.decode().split("/") if part not in ("", ".")]
        except UnicodeDecodeError as error:
            raise WasiError(Errno.INVAL) from error
        if not path or "\0" in path.decode():
            raise WasiError(Errno.NOENT if not path else Errno.INVAL)
        way = [folder]
        for place, part in enumerate(parts):
            if part == "..":
                if len(way) == 1:
                    raise WasiError(Errno.NOTCAPABLE)
                way.pop()
            elif len(part.encode()) > _NAME_BYTES_MAX:
                raise WasiError(Errno.NAMETOOLONG)
            elif place == len(parts) - 1:
                return way, part
            else:
                way.append(_folder_of(way[-1], part))
        return way, "."


def _folder_of(folder: Folder, name: str) -> Folder:
    node = folder.entries.get(name)
    if node is None:
        raise WasiError(Errno.NOENT)
    if not isinstance(node, Folder):
        raise WasiError(Errno.NOTDIR)
    return node
