"""Examples as pictures for a report. It knows the manifest's range of grey, no models."""

from __future__ import annotations

import base64
import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.manifest import ImageSpec


def picture(inputs: NDArray[np.float32], spec: ImageSpec | None, index: int) -> str | None:
    """One of the inputs [N, H, W] as a data: URL of a PNG; None where they are no pictures."""
    if spec is None:
        return None
    black, white = spec.range
    grey = np.clip((inputs[index] - black) / (white - black), 0, 1) * 255
    buffer = io.BytesIO()
    Image.fromarray(grey.round().astype(np.uint8)).save(buffer, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
