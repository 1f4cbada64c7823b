"""Compress files on the mesh with a program of the nodes: `compress.py FOLDER FILE…`."""

import os
import sys

from meshd_sdk import Mesh


def main() -> None:
    folder, *files = sys.argv[1:]
    with Mesh() as mesh:
        for result in mesh.commands(["xz", "--keep", "{}"], files, outputs=["{}.xz"], check=True):
            for path in result.save(folder):
                print(path, os.path.getsize(path))


if __name__ == "__main__":
    main()
