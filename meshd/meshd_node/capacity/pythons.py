"""The interpreters that units can ask for. Code is shipped as bytecode, so the minor version has to be the same."""

import sys
from typing import Final

# As `Needs.python` and `Offer.pythons` write it.
PYTHON: Final = f"{sys.version_info.major}.{sys.version_info.minor}"
