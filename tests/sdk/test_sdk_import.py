"""Importing the package is cheap: it loads neither the daemon nor what only some programs need."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import meshd_sdk

_HEAVY = ("asyncio", "blake3", "click", "cloudpickle", "cryptography", "dataclasses", "meshd_node",
          "meshd_protocol.values", "msgpack", "multiprocessing", "numpy", "pathlib", "rich", "structlog",
          "trio")  # fmt: skip


def test_import_loads_nothing_heavy():
    """blake3 aside, which naming ids needs."""
    script = f"import sys, meshd_sdk; print([name for name in {_HEAVY} if name in sys.modules])"
    paths = [str(Path(meshd_sdk.__file__).parents[1]), *sys.path]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)

    assert done.stdout.strip() in ("[]", "['blake3']")


def test_everything_that_is_promised_can_be_imported():
    for name in meshd_sdk.__all__:
        assert getattr(meshd_sdk, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'Nothing'"):
        _ = meshd_sdk.Nothing
