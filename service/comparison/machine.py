"""What a comparison ran on. It knows the operating system, not the models."""

from __future__ import annotations

import os
import platform

import numpy
import onnxruntime

from service import __version__
from service.comparison.schema.conditions import Machine
from service.machine import cpu_limit, gpus, memory, memory_limit, processor, usable_cpus


def machine() -> Machine:
    """This machine, what of it this process may use, and how busy it was before now."""
    return Machine(
        processor=processor(),
        cpus=usable_cpus(),
        gpus=gpus(),
        load_average=round(os.getloadavg()[0], 2),
        memory_bytes=memory(),
        cpu_limit=cpu_limit(),
        memory_limit_bytes=memory_limit(),
        system=f"{platform.system()} {platform.release()} {platform.machine()}",
        python=platform.python_version(),
        onnxruntime=str(onnxruntime.__version__),
        numpy=numpy.__version__,
        stillroom=__version__,
    )
