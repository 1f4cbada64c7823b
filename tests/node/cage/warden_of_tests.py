"""Starts one cage as whoever runs this, and says how it went. A program: one JSON object in, one out.

Other interpreters than the tests' own run it, for users who can not come to that one: it imports meshd's cages alone.
"""

import json
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from meshd_node.errors import CageError
from meshd_node.exec.cage.closure import closure
from meshd_node.exec.cage.makers import makers
from meshd_node.exec.cage.spec import CageSpec, Limits, user_of


def main() -> None:
    asked = json.load(sys.stdin)
    maker = next(maker for maker in makers() if maker.name == asked["maker"])
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o711)
    key = folder / "key"
    key.write_text("the node's")
    key.chmod(0o600)
    reading, writing = os.pipe()
    targets = {**asked["targets"], "key": str(key), "warden": os.getpid(), "answer": writing}
    number = os.getpid() % 50_000
    spec = CageSpec(
        number=number,
        argv=(sys.executable, "-I", "-S", "-c", asked["code"]),
        environ={"PATH": "/usr/bin:/bin", "TARGETS": json.dumps(targets)},
        read_only=closure(),
        limits=Limits(**asked["limits"]),
        scratch=folder / "scratch",
        pass_fds=(writing,),
        uid=user_of(number),
        stderr=subprocess.PIPE,
    )
    try:
        process = maker.start(spec)
    except (CageError, OSError) as error:
        print(json.dumps({"code": -1, "said": "", "stderr": str(error), "left": scratch_left(folder)}))
        return
    os.close(writing)
    if asked["leave"]:
        print(os.read(reading, 1_000).decode(), flush=True)
        if asked["leave"] == "kill":
            process.kill()
            process.wait()
            maker.clear(spec)
        scratch_left(folder)
        os._exit(0)
    with os.fdopen(reading) as text:
        said = text.read()
    _, stderr = process.communicate()
    maker.clear(spec)
    left = scratch_left(folder)
    print(json.dumps({"code": process.returncode, "said": said, "stderr": stderr.decode(), "left": left}))


def scratch_left(folder: Path) -> list[str]:
    """What is in the folder beside the key, whose mode is as it was; nothing is a reason to remove it."""
    key = folder / "key"
    left = [path.name for path in folder.iterdir() if path != key]
    if stat.S_IMODE(key.stat().st_mode) != 0o600:
        left.append("a key that others can read")
    if not left:
        key.unlink()
        folder.rmdir()
    return left


main()
