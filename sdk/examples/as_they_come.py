"""Estimate pi with units that end in any order; one that fails is said, and does not stop the others."""

import random
from concurrent.futures import as_completed

from meshd_sdk import Mesh


def hits(seed: int, darts: int) -> int:
    dice = random.Random(seed)  # noqa: S311  # a dart board, not a secret
    return sum(dice.random() ** 2 + dice.random() ** 2 < 1 for _ in range(darts))


def main(units: int = 40, darts: int = 100_000) -> None:
    total = thrown = 0
    with Mesh() as mesh:
        twice = mesh.options(replicas=2, timeout=60, name="pi")  # two nodes that agree, a minute at most
        for future in as_completed([twice.submit(hits, seed, darts) for seed in range(units)]):
            if error := future.exception():
                print("one unit failed:", error)
                continue
            total, thrown = total + future.result(), thrown + darts
            print(f"\rpi is about {4 * total / thrown:.5f} after {thrown:,} darts", end="")
    print()


if __name__ == "__main__":
    main()
