"""Where in the chunk the error sits: joint against time step, shaded by RMS error."""

import re

import numpy as np
from matplotlib.ticker import MaxNLocator

from pioxide.report.facts import Reconstruction
from pioxide.report.style import INK, Picture, canvas, finish, short

_IMAGE = re.compile(r"<image ([^>]*?)/>", re.DOTALL)


def error_map(names: tuple[str, ...], errors: Reconstruction) -> Picture:
    """RMS error at [joint, step] as depth of colour; the darkest (on a light page) cell is the largest."""
    values = errors.rms_by_step.T
    top = float(values.max()) or 1.0
    with canvas(0.75 + 0.185 * len(names)) as figure:
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
        axes.set_xlabel(f"step of the chunk (deepest colour: {short(top)} RMS; none: 0)")
        joint, step = np.unravel_index(int(np.argmax(values)), values.shape)
        alt = f"RMS error by joint and step. The largest is {short(top)} at {names[joint]}, step {step}."
        picture = finish(figure, "map", alt)
    return Picture(_tint(picture.svg), picture.alt)


def _tint(svg: str) -> str:
    """Uses the image as a luminance mask of a rectangle in the page's main colour."""

    def mask(match: re.Match[str]) -> str:
        attributes = match[1]
        place = " ".join(re.findall(r'\b(?:x|y|width|height|transform)="[^"]*"', attributes))
        # What a mask holds is already in the masked element's coordinates.
        attributes = re.sub(r'\btransform="[^"]*"', "", attributes)
        return (
            f'<mask id="map-tint"><image style="image-rendering:pixelated" {attributes}/></mask>'
            f'<rect {place} fill="var(--first)" mask="url(#map-tint)"/>'
        )

    return _IMAGE.sub(mask, svg, count=1)
