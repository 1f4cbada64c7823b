"""WASI preview 1 without a machine behind it: files in memory, a clock that counts its readings, known random bytes.

What a module computes follows from what it was given and from nothing else, so that any two nodes agree to the bit.
Spec: 15-runtimes.md, section 4.
"""

import struct
from enum import IntEnum
from typing import Final

from blake3 import blake3
from wasmtime import Caller

from meshd_node.exec.runtimes.guest import Guest
from meshd_node.exec.runtimes.outputs import Budget
from meshd_node.exec.runtimes.wasm_files import Errno, FileTree, Folder, Node, Regular, WasiError
from meshd_protocol.programs import CommandCall

_DESCRIPTORS_MAX: Final = 1_024
_SUBSCRIPTIONS_MAX: Final = 1_024
_READ_BYTES_MAX: Final = 1 << 24
_ROOT: Final = b"/"
_ALL_RIGHTS: Final = (1 << 30) - 1
_RANDOM: Final = b"meshd/wasm-random/1\0"
# Each reading of a clock is so much after the last; what is slept is added.
_TICK_NS: Final = 1_000_000
_U32: Final = (1 << 32) - 1
_U64: Final = (1 << 64) - 1

_CREATE, _DIRECTORY, _EXCLUSIVE, _TRUNCATE = 1, 2, 4, 8
_APPEND: Final = 1
_CLOCK_SUBSCRIPTION: Final = 0
_ABSOLUTE: Final = 1


# Every function of preview 1 with its parameters (i: i32, I: i64). All return an error number, but for `proc_exit`.
# Those that `System` lacks (links, sockets, signals) are answered with NOSYS.
FUNCTIONS: Final = {
    "args_get": "ii", "args_sizes_get": "ii", "environ_get": "ii", "environ_sizes_get": "ii",
    "clock_res_get": "ii", "clock_time_get": "iIi", "random_get": "ii", "poll_oneoff": "iiii", "sched_yield": "",
    "proc_exit": "i", "proc_raise": "i",
    "fd_advise": "iIIi", "fd_allocate": "iII", "fd_close": "i", "fd_datasync": "i", "fd_fdstat_get": "ii",
    "fd_fdstat_set_flags": "ii", "fd_fdstat_set_rights": "iII", "fd_filestat_get": "ii", "fd_filestat_set_size": "iI",
    "fd_filestat_set_times": "iIIi", "fd_pread": "iiiIi", "fd_prestat_get": "ii", "fd_prestat_dir_name": "iii",
    "fd_pwrite": "iiiIi", "fd_read": "iiii", "fd_readdir": "iiiIi", "fd_renumber": "ii", "fd_seek": "iIii",
    "fd_sync": "i", "fd_tell": "ii", "fd_write": "iiii",
    "path_create_directory": "iii", "path_filestat_get": "iiiii", "path_filestat_set_times": "iiiiIIi",
    "path_link": "iiiiiii", "path_open": "iiiiiIIii", "path_readlink": "iiiiii", "path_remove_directory": "iii",
    "path_rename": "iiiiii", "path_symlink": "iiiii", "path_unlink_file": "iii",
    "sock_accept": "iii", "sock_recv": "iiiiii", "sock_send": "iiiii", "sock_shutdown": "ii",
}  # fmt: skip
_MASKS: Final = {"i": _U32, "I": _U64}


class FileType(IntEnum):
    """What a descriptor leads to."""

    CHARACTERS = 2
    FOLDER = 3
    REGULAR = 4


class Exited(Exception):
    """The module asked to end. Not an error."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Descriptor:
    """Something open: a stream, a file or a folder."""

    def __init__(self, node: Node | None, *, appends: bool = False) -> None:
        self.node = node
        self.appends = appends
        self.position = 0

    def file(self) -> Regular:
        """The file that it is; raise if it is none."""
        if isinstance(self.node, Folder):
            raise WasiError(Errno.ISDIR)
        if self.node is None:
            raise WasiError(Errno.SPIPE)
        return self.node

    def folder(self) -> Folder:
        """The folder that it is; raise if it is none."""
        if not isinstance(self.node, Folder):
            raise WasiError(Errno.NOTDIR)
        return self.node


class Stream(Descriptor):
    """Standard output or error."""

    def __init__(self, budget: Budget, name: str) -> None:
        super().__init__(None)
        self._budget = budget
        self._name = name
        self.said = bytearray()

    def take(self, data: bytes) -> None:
        """What the module says; raise `OutputTooLarge` if it is too much."""
        self._budget.take(len(data), self._name)
        self.said += data


class System:
    """What one instance of a module sees of the world. A method is a function of WASI, named as there."""

    def __init__(self, call: CommandCall, budget: Budget) -> None:
        self._arguments = [argument.encode() + b"\0" for argument in call.argv]
        self._variables = [f"{name}={value}".encode() + b"\0" for name, value in dict(call.environment).items()]
        self.files = FileTree(call.inputs)
        self.stdout = Stream(budget, "its standard output")
        self.stderr = Stream(budget, "its standard error")
        stdin = Descriptor(Regular(0, call.stdin))
        self._open: dict[int, Descriptor] = dict(
            enumerate((stdin, self.stdout, self.stderr, Descriptor(self.files.root)))
        )
        self._clock_ns = 0
        self._random_at = 0

    def answer(self, name: str, caller: Caller, arguments: tuple[int, ...]) -> int:
        """Call a function of WASI for the module; return the error number, 0 if it went well."""
        method = getattr(self, name, None)
        try:
            if method is None:
                raise WasiError(Errno.NOSYS)
            masks = map(_MASKS.__getitem__, FUNCTIONS[name])
            method(Guest(caller), *[argument & mask for argument, mask in zip(arguments, masks, strict=True)])
        except WasiError as error:
            return int(error.number)
        return 0

    # --- what it was told -----------------------------------------------------------------------------------------

    def args_sizes_get(self, guest: Guest, count: int, size: int) -> None:
        _write_sizes(guest, self._arguments, count, size)

    def args_get(self, guest: Guest, places: int, texts: int) -> None:
        _write_texts(guest, self._arguments, places, texts)

    def environ_sizes_get(self, guest: Guest, count: int, size: int) -> None:
        _write_sizes(guest, self._variables, count, size)

    def environ_get(self, guest: Guest, places: int, texts: int) -> None:
        _write_texts(guest, self._variables, places, texts)

    # --- time and chance ------------------------------------------------------------------------------------------

    def clock_res_get(self, guest: Guest, _clock: int, result: int) -> None:
        guest.write_u64(result, _TICK_NS)

    def clock_time_get(self, guest: Guest, _clock: int, _precision: int, result: int) -> None:
        self._clock_ns += _TICK_NS
        guest.write_u64(result, self._clock_ns & _U64)

    def random_get(self, guest: Guest, at: int, count: int) -> None:
        if count > _READ_BYTES_MAX:
            raise WasiError(Errno.INVAL)
        guest.write(at, blake3(_RANDOM).digest(count, seek=self._random_at))
        self._random_at += count

    def poll_oneoff(self, guest: Guest, subscriptions: int, events: int, count: int, result: int) -> None:
        if not 1 <= count <= _SUBSCRIPTIONS_MAX:
            raise WasiError(Errno.INVAL)
        asked = [guest.read(subscriptions + 48 * place, 48) for place in range(count)]
        ready = [each for each in asked if each[8] != _CLOCK_SUBSCRIPTION]
        if not ready:  # nothing happens but that time passes
            until = min(map(self._deadline, asked))
            ready = [each for each in asked if self._deadline(each) == until]
            self._clock_ns = max(self._clock_ns, until)
        for place, each in enumerate(ready):
            guest.write(events + 32 * place, each[:8] + bytes((0, 0, each[8])) + bytes(21))
        guest.write_u32(result, len(ready))

    def _deadline(self, subscription: bytes) -> int:
        timeout, flags = struct.unpack_from("<Q8xH", subscription, 24)
        return int(timeout) if flags & _ABSOLUTE else self._clock_ns + int(timeout)

    def sched_yield(self, guest: Guest) -> None:
        pass

    def proc_exit(self, _guest: Guest, code: int) -> None:
        raise Exited(code)

    # --- descriptors ----------------------------------------------------------------------------------------------

    def fd_close(self, _guest: Guest, descriptor: int) -> None:
        self._opened(descriptor)
        del self._open[descriptor]

    def fd_renumber(self, _guest: Guest, descriptor: int, to: int) -> None:
        self._opened(to)
        self._open[to] = self._opened(descriptor)
        if to != descriptor:
            del self._open[descriptor]

    def fd_prestat_get(self, guest: Guest, descriptor: int, result: int) -> None:
        self._preopened(descriptor)
        guest.write_u32(result, 0, len(_ROOT))

    def fd_prestat_dir_name(self, guest: Guest, descriptor: int, at: int, count: int) -> None:
        self._preopened(descriptor)
        if count < len(_ROOT):
            raise WasiError(Errno.NAMETOOLONG)
        guest.write(at, _ROOT)

    def fd_fdstat_get(self, guest: Guest, descriptor: int, result: int) -> None:
        opened = self._opened(descriptor)
        flags = _APPEND if opened.appends else 0
        # A stream without the right to seek is taken for a terminal, and written line by line.
        guest.write(result, struct.pack("<BxHxxxxQQ", _type_of(opened.node), flags, _ALL_RIGHTS, _ALL_RIGHTS))

    def fd_fdstat_set_flags(self, _guest: Guest, descriptor: int, flags: int) -> None:
        self._opened(descriptor).appends = bool(flags & _APPEND)

    def fd_fdstat_set_rights(self, _guest: Guest, descriptor: int, _base: int, _inheriting: int) -> None:
        self._opened(descriptor)

    def fd_filestat_get(self, guest: Guest, descriptor: int, result: int) -> None:
        _write_status(guest, result, self._opened(descriptor).node)

    def fd_filestat_set_size(self, _guest: Guest, descriptor: int, size: int) -> None:
        self._resize(self._opened(descriptor).file(), size)

    def fd_filestat_set_times(self, _guest: Guest, descriptor: int, _accessed: int, _changed: int, _flags: int) -> None:
        self._opened(descriptor)

    def fd_advise(self, _guest: Guest, descriptor: int, _offset: int, _count: int, _advice: int) -> None:
        self._opened(descriptor).file()

    def fd_allocate(self, _guest: Guest, descriptor: int, offset: int, count: int) -> None:
        file = self._opened(descriptor).file()
        self._resize(file, max(len(file.data), offset + count))

    def fd_sync(self, _guest: Guest, descriptor: int) -> None:
        self._opened(descriptor)

    fd_datasync = fd_sync

    # --- reading and writing --------------------------------------------------------------------------------------

    def fd_read(self, guest: Guest, descriptor: int, vectors: int, count: int, result: int) -> None:
        opened = self._opened(descriptor)
        opened.position += _read(guest, opened.file(), opened.position, vectors, count, result)

    def fd_pread(self, guest: Guest, descriptor: int, vectors: int, count: int, offset: int, result: int) -> None:
        _read(guest, self._opened(descriptor).file(), offset, vectors, count, result)

    def fd_write(self, guest: Guest, descriptor: int, vectors: int, count: int, result: int) -> None:
        opened = self._opened(descriptor)
        data = guest.gather(vectors, count)
        if isinstance(opened, Stream):
            opened.take(data)
        else:
            file = opened.file()
            if opened.appends:
                opened.position = len(file.data)
            self._write(file, opened.position, data)
            opened.position += len(data)
        guest.write_u32(result, len(data))

    def fd_pwrite(self, guest: Guest, descriptor: int, vectors: int, count: int, offset: int, result: int) -> None:
        data = guest.gather(vectors, count)
        self._write(self._opened(descriptor).file(), offset, data)
        guest.write_u32(result, len(data))

    def fd_seek(self, guest: Guest, descriptor: int, offset: int, whence: int, result: int) -> None:
        opened = self._opened(descriptor)
        size = len(opened.file().data)
        if whence > 2:
            raise WasiError(Errno.INVAL)
        signed = offset - (1 << 64) if offset >> 63 else offset
        position = (0, opened.position, size)[whence] + signed
        if not 0 <= position < 1 << 63:
            raise WasiError(Errno.INVAL)
        opened.position = position
        guest.write_u64(result, position)

    def fd_tell(self, guest: Guest, descriptor: int, result: int) -> None:
        opened = self._opened(descriptor)
        opened.file()
        guest.write_u64(result, opened.position)

    def fd_readdir(self, guest: Guest, descriptor: int, at: int, count: int, cookie: int, result: int) -> None:
        listed = bytearray()
        # A cookie is the number of the last entry that was told; entries are in the order of their numbers.
        entries = sorted(self._opened(descriptor).folder().entries.items(), key=lambda item: item[1].number)
        for name, node in entries:
            if node.number <= cookie:
                continue
            told = name.encode()
            listed += struct.pack("<QQIB3x", node.number, node.number, len(told), _type_of(node)) + told
            if len(listed) >= count:
                break
        guest.write(at, bytes(listed[:count]))
        guest.write_u32(result, min(len(listed), count))

    # --- paths ----------------------------------------------------------------------------------------------------

    def path_open(
        self, guest: Guest, descriptor: int, _look: int, path: int, size: int, how: int,
        _base: int, _inheriting: int, flags: int, result: int,
    ) -> None:  # fmt: skip
        if len(self._open) >= _DESCRIPTORS_MAX:
            raise WasiError(Errno.MFILE)
        folder, name = self._opened(descriptor).folder(), guest.read(path, size)
        node = self._found_or_made(folder, name, how)
        if how & _DIRECTORY and not isinstance(node, Folder):
            raise WasiError(Errno.NOTDIR)
        if how & _TRUNCATE:
            if isinstance(node, Folder):
                raise WasiError(Errno.ISDIR)
            self._resize(node, 0)
        number = next(free for free in range(3, _DESCRIPTORS_MAX + 4) if free not in self._open)
        guest.write_u32(result, number)
        self._open[number] = Descriptor(node, appends=bool(flags & _APPEND))

    def _found_or_made(self, folder: Folder, name: bytes, how: int) -> Node:
        try:
            node = self.files.find(folder, name)
        except WasiError as error:
            if error.number is Errno.NOENT and how & _CREATE and not how & _DIRECTORY:
                return self.files.make_file(folder, name)
            raise
        if how & _CREATE and how & _EXCLUSIVE:
            raise WasiError(Errno.EXIST)
        return node

    def path_filestat_get(self, guest: Guest, descriptor: int, _flags: int, path: int, size: int, result: int) -> None:
        _write_status(guest, result, self._at(guest, descriptor, path, size))

    def path_filestat_set_times(
        self,
        guest: Guest,
        descriptor: int,
        _look: int,
        path: int,
        size: int,
        _accessed: int,
        _changed: int,
        _flags: int,
    ) -> None:
        self._at(guest, descriptor, path, size)

    def path_create_directory(self, guest: Guest, descriptor: int, path: int, size: int) -> None:
        self.files.make_folder(self._opened(descriptor).folder(), guest.read(path, size))

    def path_remove_directory(self, guest: Guest, descriptor: int, path: int, size: int) -> None:
        self.files.remove_folder(self._opened(descriptor).folder(), guest.read(path, size))

    def path_unlink_file(self, guest: Guest, descriptor: int, path: int, size: int) -> None:
        self.files.remove_file(self._opened(descriptor).folder(), guest.read(path, size))

    def path_rename(
        self, guest: Guest, descriptor: int, path: int, size: int, to_descriptor: int, to_path: int, to_size: int
    ) -> None:
        folder, to_folder = self._opened(descriptor).folder(), self._opened(to_descriptor).folder()
        self.files.rename(folder, guest.read(path, size), to_folder, guest.read(to_path, to_size))

    def path_readlink(
        self, guest: Guest, descriptor: int, path: int, size: int, _at: int, _count: int, _result: int
    ) -> None:
        self._at(guest, descriptor, path, size)
        raise WasiError(Errno.INVAL)  # no file is a link

    # --- what they share ------------------------------------------------------------------------------------------

    def _opened(self, descriptor: int) -> Descriptor:
        opened = self._open.get(descriptor)
        if opened is None:
            raise WasiError(Errno.BADF)
        return opened

    def _preopened(self, descriptor: int) -> None:
        if self._opened(descriptor).node is not self.files.root or descriptor != 3:
            raise WasiError(Errno.BADF)

    def _at(self, guest: Guest, descriptor: int, path: int, size: int) -> Node:
        return self.files.find(self._opened(descriptor).folder(), guest.read(path, size))

    def _resize(self, file: Regular, size: int) -> None:
        self.files.use(size - len(file.data))
        if size < len(file.data):
            del file.data[size:]
        else:
            file.data.extend(bytes(size - len(file.data)))

    def _write(self, file: Regular, position: int, data: bytes) -> None:
        if position + len(data) > len(file.data):
            self._resize(file, position + len(data))
        file.data[position : position + len(data)] = data


def _read(guest: Guest, file: Regular, position: int, vectors: int, count: int, result: int) -> int:
    done = 0
    for place, length in guest.vectors(vectors, count):
        data = bytes(file.data[position + done : position + done + length])
        guest.write(place, data)
        done += len(data)
        if len(data) < length:
            break
    guest.write_u32(result, done)
    return done


def _type_of(node: Node | None) -> FileType:
    if node is None:
        return FileType.CHARACTERS
    return FileType.FOLDER if isinstance(node, Folder) else FileType.REGULAR


def _write_status(guest: Guest, at: int, node: Node | None) -> None:
    """A file's status: neither its device nor its age is told."""
    number = 0 if node is None else node.number
    size = len(node.data) if isinstance(node, Regular) else 0
    guest.write(at, struct.pack("<QQB7xQQQQQ", 0, number, _type_of(node), 1, size, 0, 0, 0))


def _write_sizes(guest: Guest, texts: list[bytes], count: int, size: int) -> None:
    guest.write_u32(count, len(texts))
    guest.write_u32(size, sum(map(len, texts)))


def _write_texts(guest: Guest, texts: list[bytes], places: int, at: int) -> None:
    for place, text in enumerate(texts):
        guest.write_u32(places + 4 * place, at)
        guest.write(at, text)
        at += len(text)
