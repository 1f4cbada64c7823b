"""How long units take here, by job and function, as far as their ends have shown."""

from typing import Final

from meshd_protocol.ids import Digest, JobId

Means = dict[Digest, float]

# What is remembered is a hint: the oldest goes when there is more. 256 jobs of 1,024 functions are some 30 MB at worst.
_JOBS_MAX: Final = 256
_FUNCTIONS_MAX: Final = 1024
# A unit never counts as free: handling it costs this much (µs) in itself.
UNIT_US_MIN: Final = 2.0


class Pace:
    """Mean unit times in µs."""

    def __init__(self) -> None:
        """Know nothing."""
        self._jobs: dict[JobId, Means] = {}

    def means(self, job: JobId) -> Means:
        """The table of one job, by function; `learn` changes it."""
        means = self._jobs.pop(job, None)
        if means is None:
            means = {}
            if len(self._jobs) >= _JOBS_MAX:
                del self._jobs[next(iter(self._jobs))]
        self._jobs[job] = means
        return means


def learn(means: Means, function: Digest, units: int, spent_us: float) -> None:
    """Mix in that `units` units took `spent_us` together.

    One unit weighs a fifth, or a half if it was quick: the first of a function often pays for its imports.
    """
    mean = spent_us / units
    known = means.get(function)
    if known is None:
        if len(means) >= _FUNCTIONS_MAX:
            del means[next(iter(means))]
        means[function] = mean
        return
    weight = units / (units + (1 if mean < known else 4))
    means[function] = known + weight * (mean - known)
