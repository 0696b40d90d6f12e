"""The colours of a report: their contrast, and whether models can be told apart by them."""

from __future__ import annotations

import re
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from tests.service.test_render import STYLE


def colours(scheme: str) -> dict[str, str]:
    light, dark = re.findall(r"\.report \{\s+(--ground.*?)\n  ?(?:color:|\})", STYLE, flags=re.S)
    found = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", light))
    return found | dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", dark)) if scheme == "dark" else found


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_have_contrast(scheme: str):
    """Text and marks have 4.5 to 1 on their ground; a letter on its model's colour too (WCAG AA)."""
    found = colours(scheme)
    inks = ("ink", "muted", "link", "right", "wrong", "open")
    texts = [(ink, ground) for ink in inks for ground in ("ground", "card")]
    texts += [("on-series", f"series{n}") for n in range(6)] + [("on-miss", f"miss{n}") for n in range(1, 6)]
    texts += [(f"series{n}", "card") for n in range(6)] + [("ink", "hit")]
    for ink, ground in texts:
        dark, light = sorted(float(linear(found[name]) @ (0.2126, 0.7152, 0.0722)) for name in (ink, ground))
        assert (light + 0.05) / (dark + 0.05) >= 4.5, f"{ink} on {ground}"


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("sight", ["usual", "protanopia", "deuteranopia", "tritanopia"])
def test_models_are_told_apart_by_the_colour_blind(scheme: str, sight: str):
    """Any two colours are at least 15 apart in CIELAB as each eye sees them (Machado, Oliveira and Fernandes 2009)."""
    found = colours(scheme)
    seen = [cielab(SIGHTS[sight] @ linear(found[f"series{n}"])) for n in range(6)]
    assert min(float(np.linalg.norm(one - other)) for one, other in combinations(seen, 2)) >= 15


SIGHTS = {
    "usual": np.eye(3),
    "protanopia": np.array(
        [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]]
    ),
    "deuteranopia": np.array(
        [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]]
    ),
    "tritanopia": np.array(
        [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]]
    ),
}


XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


def linear(colour: str) -> Any:
    """Of #rrggbb, without sRGB's gamma."""
    channels = np.array([int(colour[start : start + 2], 16) for start in (1, 3, 5)]) / 255
    return np.where(channels <= 0.04045, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4)


def cielab(rgb: Any) -> Any:
    x, y, z = np.cbrt(XYZ @ rgb.clip(0, 1) / (0.9505, 1.0, 1.089))
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])
