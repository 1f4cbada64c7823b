"""Has our packages compiled before they are measured, as pip does when it installs them.

An editable install is compiled as it is imported, and with PYTHONDONTWRITEBYTECODE set each process does that anew:
half of what an import then takes, and a third of a daemon's start, which nobody who installed meshd would see.
"""

import compileall
from importlib.util import find_spec
from typing import Final

_PACKAGES: Final = ("meshd_protocol", "meshd_node", "meshd_sdk")


def compile_packages() -> None:
    """Write the bytecode of whatever has none, or that of older source."""
    for name in _PACKAGES:
        spec = find_spec(name)
        for folder in spec.submodule_search_locations or () if spec is not None else ():
            compileall.compile_dir(folder, quiet=1)
