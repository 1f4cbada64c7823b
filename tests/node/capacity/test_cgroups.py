import math
from pathlib import Path

import pytest

from meshd_node.capacity.cgroups import cpu_quota, memory_left
from meshd_node.capacity.measure import usable_cpu_milli, usable_memory_bytes
from meshd_node.cgroup_trees import hierarchies

GIB = 1 << 30
V1_UNLIMITED = "9223372036854771712"


def tree(root: Path, cgroup: str, mountinfo: str, files: dict[str, str]) -> Path:
    """A file system with these files; paths in `files` are below /sys/fs/cgroup."""
    named = {"proc/self/cgroup": cgroup, "proc/self/mountinfo": mountinfo}
    for name, text in {**named, **{f"sys/fs/cgroup/{path}": text for path, text in files.items()}}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n")
    return root


V2 = "30 23 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
V1 = "\n".join(
    [
        "31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw shared:5 - cgroup cgroup rw,cpu,cpuacct",
        "32 30 0:28 / /sys/fs/cgroup/memory rw shared:6 - cgroup cgroup rw,memory",
        "33 30 0:29 / /sys/fs/cgroup/systemd rw shared:7 - cgroup cgroup rw,xattr,name=systemd",
        "34 30 0:30 / /sys/fs/cgroup/unified rw shared:8 - cgroup2 cgroup2 rw",
    ]
)


def test_without_cgroups_nothing_binds(tmp_path: Path) -> None:
    assert hierarchies(tmp_path) == []
    assert cpu_quota(tmp_path) == math.inf
    assert memory_left(tmp_path) == math.inf


def test_version_2_the_tightest_quota_up_the_tree_binds(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        "0::/system.slice/meshd.service",
        V2,
        {"system.slice/meshd.service/cpu.max": "max 100000", "system.slice/cpu.max": "150000 100000"},
    )

    assert cpu_quota(root) == 1.5
    assert usable_cpu_milli(8, root) == 1500
    assert usable_cpu_milli(1, root) == 1000


def test_version_2_memory_that_the_limit_leaves_counts_idle_file_pages_as_free(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        "0::/a/b",
        V2,
        {
            "a/memory.max": str(4 * GIB),
            "a/memory.current": str(3 * GIB),
            "a/memory.stat": f"anon 1\ninactive_file {GIB}\nactive_file 7",
            "a/b/memory.max": "max",
            "a/b/memory.current": str(GIB),
        },
    )

    assert memory_left(root) == 2 * GIB
    assert usable_memory_bytes(GIB, root) == GIB
    assert usable_memory_bytes(16 * GIB, root) == 2 * GIB


def test_version_1_quota_and_limit_are_read_where_each_controller_is_mounted(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        "5:memory:/lab/job\n4:cpu,cpuacct:/lab\n1:name=systemd:/x\n0::/x",
        V1,
        {
            "cpu,cpuacct/lab/cpu.cfs_quota_us": "50000",
            "cpu,cpuacct/lab/cpu.cfs_period_us": "100000",
            "cpu,cpuacct/cpu.cfs_quota_us": "-1",
            "cpu,cpuacct/cpu.cfs_period_us": "100000",
            "memory/lab/job/memory.limit_in_bytes": V1_UNLIMITED,
            "memory/lab/memory.limit_in_bytes": str(GIB),
            "memory/lab/memory.usage_in_bytes": str(GIB // 4),
        },
    )

    assert cpu_quota(root) == 0.5
    assert memory_left(root) == GIB - GIB // 4


def test_version_1_without_limits_is_unlimited(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        "5:memory:/\n4:cpu,cpuacct:/",
        V1,
        {"memory/memory.limit_in_bytes": V1_UNLIMITED, "cpu,cpuacct/cpu.cfs_quota_us": "-1"},
    )

    assert cpu_quota(root) == math.inf
    assert memory_left(root) == math.inf


def test_a_container_that_sees_only_its_own_part_of_the_tree_finds_its_limits(tmp_path: Path) -> None:
    mount = "30 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw"
    root = tree(tmp_path, "0::/docker/abc", mount, {"cpu.max": "200000 100000"})

    assert cpu_quota(root) == 2.0


def test_a_path_outside_of_what_is_mounted_falls_back_to_the_mount(tmp_path: Path) -> None:
    mount = "30 23 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw"
    root = tree(tmp_path, "0::/", mount, {"cpu.max": "200000 100000"})

    assert cpu_quota(root) == 2.0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "garbage",
        "max",
        "1 0",
        "-5 100000",
        "1e3 100000",
        "\udcff".encode("utf-8", "surrogateescape").decode("latin-1"),
    ],
)
def test_what_makes_no_sense_is_no_limit(tmp_path: Path, text: str) -> None:
    root = tree(tmp_path, "0::/a", V2, {"a/cpu.max": text, "a/memory.max": text})

    assert cpu_quota(root) == math.inf


def test_a_used_up_limit_leaves_nothing_and_not_less(tmp_path: Path) -> None:
    root = tree(tmp_path, "0::/a", V2, {"a/memory.max": "1000", "a/memory.current": "5000"})

    assert memory_left(root) == 0


def test_a_quota_of_nearly_nothing_is_still_something(tmp_path: Path) -> None:
    root = tree(tmp_path, "0::/a", V2, {"a/cpu.max": "10 100000"})

    assert usable_cpu_milli(4, root) == 1


def test_this_machines_own_cgroups_are_read_without_an_error() -> None:
    assert cpu_quota(Path("/")) > 0
    assert memory_left(Path("/")) >= 0
