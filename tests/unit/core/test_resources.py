import os
from pathlib import Path

import pytest

from rsdl.core.resources import usable_cores, usable_memory

GIB = 1 << 30
ALL_CORES = len(os.sched_getaffinity(0))


def machine(root: Path, groups: str, files: dict[str, str]) -> Path:
    """Lay out a /proc and /sys with these control groups."""
    for name, text in {"proc/self/cgroup": groups, **files}.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_without_control_groups_the_affinity_counts(tmp_path: Path):
    assert usable_cores(tmp_path) == ALL_CORES
    assert usable_memory(tmp_path) > 0


@pytest.mark.parametrize(
    ("quota", "cores"),
    [("100000 100000", 1), ("50000 100000", 1), ("199999 100000", 1), ("max 100000", ALL_CORES)],
)
def test_a_quota_of_version_2_limits_the_cores(quota: str, cores: int, tmp_path: Path):
    root = machine(tmp_path, "0::/\n", {"sys/fs/cgroup/cpu.max": f"{quota}\n"})
    assert usable_cores(root) == cores


def test_a_quota_of_version_1_limits_the_cores(tmp_path: Path):
    folder = "sys/fs/cgroup/cpu,cpuacct/pod"
    root = machine(
        tmp_path,
        "4:memory:/\n3:cpu,cpuacct:/pod\n0::/\n",
        {f"{folder}/cpu.cfs_quota_us": "100000\n", f"{folder}/cpu.cfs_period_us": "100000\n"},
    )
    assert usable_cores(root) == 1
    (root / folder / "cpu.cfs_quota_us").write_text("-1\n")
    assert usable_cores(root) == ALL_CORES


def test_the_tightest_group_around_the_process_counts(tmp_path: Path):
    root = machine(
        tmp_path,
        "0::/pod/container\n",
        {
            "sys/fs/cgroup/pod/memory.max": f"{GIB // 4}\n",
            "sys/fs/cgroup/pod/container/memory.max": "max\n",
            "sys/fs/cgroup/memory.max": f"{GIB // 2}\n",
        },
    )
    assert usable_memory(root) == GIB // 4


def test_a_group_that_is_not_mounted_leaves_the_ones_above(tmp_path: Path):
    root = machine(
        tmp_path, "4:memory:/host/name\n", {"sys/fs/cgroup/memory/memory.limit_in_bytes": "4096\n"}
    )
    assert usable_memory(root) == 4096
