"""What a comparison ran on. It knows the operating system, not the models."""

from __future__ import annotations

import os
import platform

import onnxruntime

from service.comparison.report import Machine
from service.machine import processor, usable_cpus


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
