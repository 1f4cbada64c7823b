"""Numbers of the syscalls that the filter looks at: on x86-64, and on arm64; None is one that is not there.

From 424 on all machines share the numbers. A test compares these with the headers of the system, where it has them.
"""

import platform
from typing import Final

Numbers = tuple[int | None, int | None]

# Forbidden with EPERM, in every cage. The kernel refuses most of these to whoever has no capabilities; the rest, and
# bugs in how it does so, are the ways out that have been found over the years.
FORBIDDEN: Final[dict[str, Numbers]] = {
    # Namespaces and mounts: with some of its own a process is root in them, and the kernel does much for root.
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "chroot": (161, 51),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    # Files by handle go around every folder above them.
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "fanotify_init": (300, 262),
    # Other processes' memory and descriptors.
    "ptrace": (101, 117),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "process_madvise": (440, 440),
    "pidfd_getfd": (438, 438),
    "kcmp": (312, 272),
    "move_pages": (279, 239),
    "migrate_pages": (256, 238),
    # Large parts of the kernel with a history, that work for others does not need.
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "memfd_secret": (447, 447),
    "modify_ldt": (154, None),
    "lookup_dcookie": (212, 18),
    # Keys belong to users, not to namespaces.
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    # The machine itself.
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "reboot": (169, 142),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "quotactl": (179, 60),
    "quotactl_fd": (443, 443),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "clock_settime": (227, 112),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "vhangup": (153, 58),
    "syslog": (103, 116),
    "iopl": (172, None),
    "ioperm": (173, None),
    "nfsservctl": (180, 42),
}

# Objects that outlive their maker, and that whoever guesses their key may open: forbidden where they are the host's.
SHARED_WITH_THE_HOST: Final[dict[str, Numbers]] = {
    "shmget": (29, 194),
    "shmat": (30, 196),
    "shmctl": (31, 195),
    "semget": (64, 190),
    "semop": (65, 193),
    "semtimedop": (220, 192),
    "semctl": (66, 191),
    "msgget": (68, 186),
    "msgsnd": (69, 189),
    "msgrcv": (70, 188),
    "msgctl": (71, 187),
    "mq_open": (240, 180),
    "mq_unlink": (241, 181),
}

# What a user may do to all of its own files and processes, and Landlock has no rule for: forbidden in a cage whose
# user is the daemon's. It would give the node's key to everybody, or take it from the node. By descriptor it goes on.
OF_THE_SAME_USER: Final[dict[str, Numbers]] = {
    "chmod": (90, None),
    "fchmodat": (268, 53),
    "fchmodat2": (452, 452),
    "chown": (92, None),
    "lchown": (94, None),
    "fchownat": (260, 54),
    "truncate": (76, 45),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "utime": (132, None),
    "utimes": (235, None),
    "futimesat": (261, None),
    "setpriority": (141, 140),
    "ioprio_set": (251, 30),
}

# Of these, what a process does to itself is allowed in such a cage: their first argument is whose it is, 0 the caller.
TO_PROCESSES: Final[dict[str, Numbers]] = {
    "prlimit64": (302, 261),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
}

# Those that are forbidden for some arguments only.
BY_ARGUMENT: Final[dict[str, Numbers]] = {
    "socket": (41, 198),
    "socketpair": (53, 199),
    "clone": (56, 220),
    "clone3": (435, 435),
    "ioctl": (16, 29),
    "personality": (135, 92),
    "utimensat": (280, 88),
}

# Those that send signals: the first argument says to whom.
SIGNALS: Final[dict[str, Numbers]] = {
    "kill": (62, 129),
    "tkill": (200, 130),
    "tgkill": (234, 131),
    "rt_sigqueueinfo": (129, 138),
    "rt_tgsigqueueinfo": (297, 240),
}
PIDFD_SEND_SIGNAL: Final = 424

# The last number that was looked at when this was written (mseal). What the kernel learns later does not exist here.
LAST_KNOWN: Final = 462

_COLUMNS: Final = {"x86_64": 0, "aarch64": 1}


def column() -> int | None:
    """This machine's place in the tables; None for one that is not in them."""
    return _COLUMNS.get(platform.machine())
