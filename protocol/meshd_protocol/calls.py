"""A unit's payload: one byte that says how to call, then the pickled arguments. Spec: 07-jobs.md, section 3.

Only a worker unpickles a payload; to everybody else it is bytes with a digest.
"""

from enum import IntEnum


class CallForm(IntEnum):
    """How a worker calls the function, and what its result is."""

    CALL = 1  # pickled (args, kwargs): the result is what the call returns
    MAP = 2  # pickled list of argument tuples: the result is the list of what the calls return, in order
