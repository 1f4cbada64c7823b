"""Exit codes, as data: sysexits.h, so that scripts can tell a typing error from a daemon that is not there."""

from enum import IntEnum


class Exit(IntEnum):
    """What a verb's end means."""

    OK = 0
    FAILED = 1  # the verb worked, and what it did failed: a job with failed units
    USAGE = 64
    DATA = 65
    NO_INPUT = 66
    UNAVAILABLE = 69
    SOFTWARE = 70
    CANT_CREATE = 73
    IO = 74
    TEMPORARY = 75
    PROTOCOL = 76
    NO_PERMISSION = 77
    CONFIG = 78
    # As xargs has them, of the commands that `meshd run` ran.
    SOME_FAILED = 123
    TIMED_OUT = 124  # as timeout(1) has it
    NO_RESULT = 125
    PROGRAM_NOT_FOUND = 127
    INTERRUPTED = 130
