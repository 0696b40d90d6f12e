"""The few settings of the service: from flags, else from STILLROOM_* variables, else their defaults.

It knows their names, limits and defaults, and how many CPUs the process may use. It does not know what they are for.
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, ValidationError
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticUndefined

from service.errors import SettingsError
from service.model import Device

PREFIX = "STILLROOM_"
CGROUPS = Path("/sys/fs/cgroup")
MEMBERSHIP = Path("/proc/self/cgroup")

Count = Annotated[int, Field(ge=1)]


def usable_cpus(cgroups: Path = CGROUPS, membership: Path = MEMBERSHIP) -> int:
    """CPUs that this process may really use: those it is bound to, and no more than its cgroups' quota pays for.

    `cgroups` is where the cgroup file system is mounted, `membership` the file that names the process's own group.
    """
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, math.floor(min([float(bound), *_quotas(cgroups, membership)])))


def _quotas(cgroups: Path, membership: Path) -> Iterator[float]:
    """The CPU quotas, in CPUs, of the process's group and those above it, of cgroups version 2 and 1."""
    try:
        lines = membership.read_text().splitlines()
    except OSError:  # no Linux, no cgroups
        return
    for _, controllers, group in (line.split(":", 2) for line in lines):
        root = cgroups / "cpu" if "cpu" in controllers.split(",") else cgroups
        own = root / group.lstrip("/")
        # Inside a container the group's path is the host's, while its files are at the root of the mount.
        for folder in (own, *(parent for parent in own.parents if parent.is_relative_to(root))):
            yield from _quota(folder)


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


@dataclass(frozen=True)
class Settings:
    """What the service can be told. Every field is a flag and a variable: `--max-batch`, `STILLROOM_MAX_BATCH`."""

    models_dir: Path = Field(default=Path("models"), description="the model repository")
    host: str = Field(default="127.0.0.1", description="address to listen on; 0.0.0.0 for every interface")
    port: int = Field(default=8000, ge=0, le=65535, description="port to listen on; 0 for any free one")
    device: Device = Field(default="auto", description="auto, cpu or cuda; auto takes CUDA where it is found")
    threads: Count = Field(default_factory=usable_cpus, description="threads per model; by default the usable CPUs")
    max_batch: Count = Field(default=1024, description="rows that one request may send and one run may hold")
    max_body_bytes: Count = Field(default=32 * 2**20, description="bytes of the largest request body")
    max_image_pixels: Count = Field(default=20_000_000, description="pixels of the largest image")
    reload_s: float = Field(
        default=2.0, gt=0.0, allow_inf_nan=False, description="seconds between two looks for new versions"
    )
    state_dir: Path | None = Field(default=None, description="the only folder that the service may write to")


def read_settings(flags: Mapping[str, str | None], environ: Mapping[str, str]) -> Settings:
    """Settings from flags (by field, None where not given) and variables; an empty variable counts as not given.

    Raises SettingsError, naming the key, the value and what was expected.
    """
    given: dict[str, str] = {}
    keys: dict[str, str] = {}
    for field in fields(Settings):
        flag, variable = flags.get(field.name), PREFIX + field.name.upper()
        if flag is not None:
            given[field.name], keys[field.name] = flag, flag_of(field.name)
        elif environ.get(variable):
            given[field.name], keys[field.name] = environ[variable], variable
    values: dict[str, Any] = dict(given)
    try:
        return Settings(**values)
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]
        name = str(problem["loc"][0])
        expected = problem["msg"].replace("Input should be", "expected", 1)
        raise SettingsError(f"{keys[name]}: got {given[name]!r}, {expected}") from error


def flag_of(name: str) -> str:
    """The flag of a field: `--models-dir` of `models_dir`."""
    return "--" + name.replace("_", "-")


def help_of(name: str) -> str:
    """What a field is, its default where there is a plain one, and its variable."""
    info = Settings.__pydantic_fields__[name]  # type: ignore[attr-defined]  # pydantic adds it
    default = "" if info.default in (None, PydanticUndefined) else f"; default {info.default}"
    return f"{info.description}{default} ({PREFIX}{name.upper()})"
