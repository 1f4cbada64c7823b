"""Wheels made on the spot, locks of them, and an installer that counts how often it is asked."""

import hashlib
import sys
import zipfile
from base64 import urlsafe_b64encode
from pathlib import Path

import pytest

from meshd_node.environments.build import Builder
from meshd_node.environments.config import EnvironmentsConfig
from meshd_node.environments.store import Store
from meshd_protocol.locks import Lock

# Takes what uv takes: writes a package into the target and a line into a log beside itself.
FAKE_UV = f"""\
#!{sys.executable} -P
import os, sys, time
from pathlib import Path
with open(Path(__file__).with_name("asked"), "a") as asked:
    asked.write(" ".join(sys.argv[1:]) + "\\n")
target = Path(sys.argv[sys.argv.index("--target") + 1])
{{behaviour}}
"""
INSTALLS = """\
time.sleep(0.2)
(target / "pack").mkdir(parents=True)
(target / "pack/__init__.py").write_text("VALUE = 42\\n")
(target / ".lock").touch()
"""


def wheel(folder: Path, name: str, version: str, source: str, tag: str = "py3-none-any") -> str:
    """Make a wheel with one module; return the line of a lock that pins it."""
    info = f"{name}-{version}.dist-info"
    files = {
        f"{name}.py": source,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": f"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }
    record = "".join(f"{path},sha256={_digest(text.encode())},{len(text)}\n" for path, text in files.items())
    files[f"{info}/RECORD"] = f"{record}{info}/RECORD,,\n"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-{tag}.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for inside, text in files.items():
            archive.writestr(inside, text)
    return f"{name}=={version} --hash=sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}\n"


def _digest(data: bytes) -> str:
    return urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()


class FakeUv:
    """An installer that is a script; `asked` are the command lines that it was given."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "uv"
        self.does(INSTALLS)

    def does(self, behaviour: str) -> None:
        self.path.write_text(FAKE_UV.replace("{behaviour}", behaviour))
        self.path.chmod(0o755)

    def find(self) -> Path:
        return self.path

    @property
    def asked(self) -> list[str]:
        log = self.path.with_name("asked")
        return log.read_text().splitlines() if log.exists() else []


@pytest.fixture
def make_wheel():
    return wheel


@pytest.fixture
def fake_uv(tmp_path: Path) -> FakeUv:
    return FakeUv(tmp_path)


@pytest.fixture
def new_store(tmp_path: Path, fake_uv: FakeUv):
    """Makes stores of one folder, as several daemons of a machine would; with the counting installer unless told."""

    def make(find=fake_uv.find, **settings) -> Store:
        return Store(tmp_path / "environments", Builder(EnvironmentsConfig(**settings), find))

    return make


@pytest.fixture
def lock() -> Lock:
    return Lock.parse(f"pack==1.0 --hash=sha256:{'a' * 64}")
