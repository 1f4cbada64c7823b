"""What the cgroups above this process leave to it, CPU quota and memory: versions 1 and 2, and the two side by side."""

import math
from pathlib import Path

from meshd_node.cgroup_trees import Hierarchy, count_of, hierarchies, text_of

# Version 1 writes "no limit" as the largest number of whole pages that fits in 63 bits.
_V1_UNLIMITED = 1 << 62


def cpu_quota(root: Path) -> float:
    """CPUs that the tightest quota leaves; infinity without one."""
    return min((_quota(tree, folder) for tree in _trees(root, "cpu") for folder in tree.levels()), default=math.inf)


def memory_left(root: Path) -> float:
    """Bytes that may still be taken before the tightest limit; infinity without one.

    File pages that nobody uses are given back under pressure and count as free, as they do in `MemAvailable`.
    """
    trees = _trees(root, "memory")
    return min((_memory_left(tree, folder) for tree in trees for folder in tree.levels()), default=math.inf)


def _trees(root: Path, controller: str) -> list[Hierarchy]:
    return [tree for tree in hierarchies(root) if tree.unified or controller in tree.controllers]


def _quota(tree: Hierarchy, folder: Path) -> float:
    if tree.unified:
        quota, _, period = text_of(folder / "cpu.max").partition(" ")
    else:
        quota, period = text_of(folder / "cpu.cfs_quota_us"), text_of(folder / "cpu.cfs_period_us")
    # "max" and -1 both mean that there is none; neither is decimal.
    if not (quota.isdecimal() and period.isdecimal()) or int(period) == 0:
        return math.inf
    return int(quota) / int(period)


def _memory_left(tree: Hierarchy, folder: Path) -> float:
    limit_name, usage_name, idle_name = (
        ("memory.max", "memory.current", "inactive_file")
        if tree.unified
        else ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")
    )
    limit, usage = text_of(folder / limit_name), text_of(folder / usage_name)
    if not limit.isdecimal() or int(limit) >= _V1_UNLIMITED:
        return math.inf
    used = int(usage) if usage.isdecimal() else 0
    return max(0, int(limit) - max(0, used - count_of(folder / "memory.stat", idle_name)))
