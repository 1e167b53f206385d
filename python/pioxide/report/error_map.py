"""Where in the chunk the error sits: joint against time step, shaded by RMS error."""

import itertools
import re

import numpy as np
from matplotlib.ticker import MaxNLocator

from pioxide.report.digits import short
from pioxide.report.facts import Reconstruction
from pioxide.report.style import INK, Picture, canvas, finish

_IMAGE = re.compile(r"<image ([^>]*?)/>", re.DOTALL)


def error_map(names: tuple[str, ...], errors: Reconstruction) -> Picture:
    """Draws the RMS error at [joint, step] as depth of colour, with the scale beside it."""
    values = errors.rms_by_step.T
    top = float(values.max()) or 1.0
    height = max(0.75 + 0.185 * len(names), 1.6)  # that the scale has room
    with canvas(height) as figure:
        axes = figure.add_subplot()
        # The picture's brightness becomes a mask over the page's own colour: right on light and dark paper.
        axes.imshow(
            values / top, cmap="gray", vmin=0, vmax=1, aspect="auto", interpolation="none", origin="upper"
        )
        axes.set_yticks(np.arange(len(names)), names)
        axes.tick_params(axis="y", labelcolor=INK, labelsize=7.5)
        for spine in axes.spines.values():
            spine.set_visible(False)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
        axes.set_xlabel("step of the chunk")
        scale = axes.inset_axes((1.02, 0.0, 0.03, 1.0))
        scale.imshow(
            np.linspace(1, 0, 64)[:, None], cmap="gray", vmin=0, vmax=1, aspect="auto", extent=(0, 1, 0, top)
        )
        scale.set_xticks([])
        scale.yaxis.tick_right()
        scale.set_yticks([0, top], ["0", short(top)])
        scale.set_title("RMS")
        joint, step = np.unravel_index(int(np.argmax(values)), values.shape)
        alt = f"RMS error by joint and step. The largest is {short(top)} at {names[joint]}, step {step}."
        picture = finish(figure, "map", alt)
    return Picture(_tint(picture.svg), picture.alt)


def _tint(svg: str) -> str:
    """Uses each image as a luminance mask of a rectangle in the page's main colour."""

    def mask(match: re.Match[str]) -> str:
        attributes = match[1]
        place = " ".join(re.findall(r'\b(?:x|y|width|height|transform)="[^"]*"', attributes))
        # What a mask holds is already in the masked element's coordinates.
        attributes = re.sub(r'\btransform="[^"]*"', "", attributes)
        number = next(numbers)
        return (
            f'<mask id="map-tint{number}"><image style="image-rendering:pixelated" {attributes}/></mask>'
            f'<rect {place} fill="var(--first)" mask="url(#map-tint{number})"/>'
        )

    numbers = itertools.count()
    return _IMAGE.sub(mask, svg)
