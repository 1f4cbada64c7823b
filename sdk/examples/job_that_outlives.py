"""Start a job, leave, and come back for its results: `job_that_outlives.py`, then `job_that_outlives.py ID`."""

import sys
import time

from meshd_sdk import Mesh


def slow_square(number: int) -> int:
    time.sleep(1)
    return number * number


def main() -> None:
    with Mesh() as mesh:
        if len(sys.argv) == 1:
            job = mesh.job(slow_square, range(100), name="squares")
            print(f"started; come back with: python {sys.argv[0]} {job.id}")
            return
        job = mesh.attach(sys.argv[1])
        progress = job.progress()
        print(f"{progress['done']} of {progress['units']} units are done; the sum of all squares will be", end=" ")
        sys.stdout.flush()
        print(sum(job.results()))


if __name__ == "__main__":
    main()
