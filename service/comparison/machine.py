"""What a comparison ran on. It knows the operating system, not the models."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import onnxruntime

from service.comparison.report import Machine
from service.settings import usable_cpus

CPUINFO = Path("/proc/cpuinfo")


def machine() -> Machine:
    """This machine, and how busy it was before now."""
    return Machine(
        processor=processor(),
        cpus=usable_cpus(),
        load_average=round(os.getloadavg()[0], 2),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        onnxruntime=str(onnxruntime.__version__),
    )


def processor(cpuinfo: Path = CPUINFO) -> str:
    """The processor's name as the kernel tells it, else its architecture: not every kernel tells."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
