"""What this process runs on: its processor, the CPUs it may really use, its memory. It knows the kernel's files."""

from __future__ import annotations

import ctypes
import math
import os
import platform
from collections.abc import Iterator
from functools import cache
from pathlib import Path

CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")
CPUINFO = Path("/proc/cpuinfo")
GPUS = Path("/proc/driver/nvidia/gpus")
STATM = Path("/proc/self/statm")


def processor(cpuinfo: Path = CPUINFO) -> str:
    """The processor's name as the kernel tells it, else its architecture: not every kernel tells."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def processors() -> str:
    """The processor and how many CPUs of it this process may use, as reports name them."""
    return f"{processor()}, {counted_cpus(usable_cpus())}"


def counted_cpus(count: int) -> str:
    """A number of CPUs, in words."""
    return f"{count} CPU" if count == 1 else f"{count} CPUs"


def usable_cpus(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """CPUs that this process may really use: those it is bound to, and no more than its cgroups' quota pays for.

    `cgroups` is where the cgroup file system is mounted, `membership` the file that names the process's own group.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min([float(bound), *_quotas(cgroups, membership)])))


def cpu_limit(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> float | None:
    """CPUs that the cgroups' quota pays for; None without a quota."""
    return min(_quotas(cgroups, membership), default=None)


def memory_limit(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int | None:
    """Bytes that the cgroups allow; None without a limit. Version 1 tells of none by a number beyond any machine."""
    texts = (
        (folder / name).read_text().strip()
        for folder in _groups("memory", cgroups, membership)
        for name in ("memory.max", "memory.limit_in_bytes")
        if (folder / name).is_file()
    )
    return min((int(text) for text in texts if text.isdecimal() and int(text) < 2**60), default=None)


def memory() -> int | None:
    """Bytes of memory of the machine; None where the system does not tell."""
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def resident(statm: Path = STATM) -> int | None:
    """Bytes of memory that this process holds; None where the kernel does not tell."""
    try:
        return int(statm.read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return None


def gpus(folder: Path = GPUS) -> list[str]:
    """The NVIDIA GPUs as their driver names them."""
    files = sorted(folder.glob("*/information")) if folder.is_dir() else []
    lines = (line.partition(":") for file in files for line in file.read_text().splitlines())
    return [value.strip() for name, _, value in lines if name.strip() == "Model"]


def _quotas(cgroups: Path, membership: Path) -> Iterator[float]:
    """The CPU quotas, in CPUs, of the process's group and those above it, of cgroups version 2 and 1."""
    for folder in _groups("cpu", cgroups, membership):
        yield from _quota(folder)


def _groups(controller: str, cgroups: Path, membership: Path) -> Iterator[Path]:
    """The folders of the process's group and of those above it."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:  # no Linux, no cgroups
        return
    for _, controllers, group in (line.split(":", 2) for line in lines):
        root = cgroups / controller if controller in controllers.split(",") else cgroups
        own = root / group.lstrip("/")
        # Inside a container the group's path is the host's, while its files are at the root of the mount.
        yield from (own, *(parent for parent in own.parents if parent.is_relative_to(root)))


def _quota(folder: Path) -> Iterator[float]:
    version_2, version_1 = folder / "cpu.max", folder / "cpu.cfs_quota_us"
    try:
        if version_2.exists():
            quota, period = version_2.read_text().split()
        else:
            quota, period = version_1.read_text(), (folder / "cpu.cfs_period_us").read_text()
    except OSError:  # this group has no quota of its own
        return
    if quota.strip() not in {"max", "-1"}:
        yield float(quota) / float(period)


def give_back_memory() -> None:
    """Gives the system what was freed and is still held for later, where the C library is one that can (glibc)."""
    trim = getattr(_c_library(), "malloc_trim", None)
    if trim is not None:
        trim(0)


@cache
def _c_library() -> ctypes.CDLL:
    return ctypes.CDLL(None)
