"""`{}` in a command is the file that it is run for; `{.}`, `{/}`, `{//}`, `{/.}` are parts of it, as in parallel(1)."""

import posixpath
import re
from collections.abc import Sequence
from typing import Final

_PLACEHOLDER: Final = re.compile(r"\{(|\.|/|//|/\.)\}")


def has_placeholder(text: str) -> bool:
    """Whether something is to be filled in."""
    return _PLACEHOLDER.search(text) is not None


def fill(text: str, path: str) -> str:
    """The text with each `{}` replaced by the path, `{/}` by its last part, `{//}` by its folder.

    A dot leaves the extension out.
    """
    return _PLACEHOLDER.sub(lambda found: _part(found[1], path), text)


def fill_command(argv: Sequence[str], path: str) -> list[str]:
    """The same for a command; one without any placeholder gets the path as its last argument.

    A file whose name begins with a dash must not be read as an option.
    """
    path = f"./{path}" if path.startswith("-") else path
    if not any(map(has_placeholder, argv)):
        return [*argv, path]
    return [fill(argument, path) for argument in argv]


def _part(which: str, path: str) -> str:
    folder, name = posixpath.split(path)
    match which:
        case "":
            return path
        case ".":
            return posixpath.splitext(path)[0]
        case "/":
            return name
        case "//":
            return folder or "."
        case _:
            return posixpath.splitext(name)[0]
