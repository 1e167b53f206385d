"""The first batch as a picture, so that wrong data is seen before a day is lost on it."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from pioxide.codec import TextTokenizer
from pioxide.data.loader import Batch
from pioxide.files import atomic_file
from pioxide.train.augment import augment

ROWS, SIDE, LINE = 4, 224, 14
COLOURS = ((31, 119, 180), (255, 127, 14), (44, 160, 44), (214, 39, 40), (148, 103, 189), (140, 86, 75))


def draw_batch(batch: Batch, tokenizer: TextTokenizer, path: Path, *, seed: int | None) -> None:
    """Writes a PNG of some rows: images as the network sees them, the prompt's text, ids and actions.

    Args:
        batch: Of the loader.
        tokenizer: Of its ids.
        path: The file.
        seed: Of the augmentation; None for images as they are.

    Raises:
        OutputError: It can't be written.
    """
    from PIL import Image, ImageDraw

    rows = min(ROWS, len(batch))
    images: dict[str, Any] = {slot: array[:rows] for slot, array in batch.images.items()}
    if seed is not None:
        images = {k: np.asarray(v) for k, v in augment(images, jax.random.key(seed)).items()}
    masks = {slot: mask[:rows] for slot, mask in batch.image_masks.items()}
    past = {slot: mask for slot, mask in masks.items() if mask.ndim > 1}
    for slot, mask in past.items():
        images[slot], masks[slot] = images[slot][:, -1], mask[:, -1]
    text_height = 6 * LINE
    height = SIDE + text_height + 8
    width = SIDE * max(len(images), 1) + 2 * SIDE
    sheet = Image.new("RGB", (width, height * rows), "white")
    draw = ImageDraw.Draw(sheet)
    for row in range(rows):
        top = row * height
        for column, (slot, array) in enumerate(images.items()):
            tile = Image.fromarray(_pixels(array[row])).resize((SIDE, SIDE), Image.Resampling.NEAREST)
            sheet.paste(tile, (column * SIDE, top))
            note = slot if masks[slot][row] else f"{slot}: masked"
            if slot in past:
                note += f", newest of {int(past[slot][row].sum())} frames"
            draw.text((column * SIDE + 3, top + 3), note, fill=(255, 255, 0))
        _plot(draw, batch, row, (len(images) * SIDE + 8, top + 8, width - 8, top + SIDE - 8))
        for i, line in enumerate(describe(batch, tokenizer, row, width // 6)[:6]):
            draw.text((3, top + SIDE + i * LINE), line.encode("latin-1", "replace").decode("latin-1"), fill=0)
    png = io.BytesIO()
    sheet.save(png, format="PNG")
    with atomic_file(path) as out:
        out.write(png.getvalue())


def describe(batch: Batch, tokenizer: TextTokenizer, row: int, width: int) -> list[str]:
    """Returns a row's prompt and ids as lines of text."""
    ids = batch.tokens[row][batch.token_mask[row]]
    loss = "" if batch.loss_mask is None else f", {int(batch.loss_mask[row].sum())} carry the loss"
    lines = [
        f"{len(ids)} ids of {batch.tokens.shape[1]}{loss}: {' '.join(map(str, ids.tolist()))}",
        repr(_text(ids, tokenizer)),
    ]
    if batch.answer is not None and batch.answer_mask is not None:
        said = batch.answer[row][batch.answer_mask[row]]
        lines.append(f"to be written: {_text(said, tokenizer)!r}")
    if batch.action_mask is not None:
        real = batch.action_mask[row]
        lines.append(
            f"actions [{real.shape[0]}, {real.shape[1]}]: {int(real.any(axis=1).sum())} steps and "
            f"{int(real.any(axis=0).sum())} dimensions are real"
        )
    return [line[i : i + width] for line in lines for i in range(0, max(len(line), 1), width)]


def _text(ids: NDArray[Any], tokenizer: TextTokenizer) -> str:
    return "".join(tokenizer.piece(int(id)).replace("▁", " ") for id in ids)


def _pixels(image: NDArray[Any]) -> NDArray[np.uint8]:
    if image.dtype == np.uint8:
        return image
    return np.clip((image + 1) * 127.5, 0, 255).astype(np.uint8)


def _plot(draw: Any, batch: Batch, row: int, box: tuple[int, int, int, int]) -> None:
    """Draws normalised actions over the horizon between -1.5 and 1.5; padded steps are not drawn."""
    left, top, right, bottom = box
    draw.rectangle(box, outline=(200, 200, 200))
    if batch.actions is None or batch.action_mask is None:
        return
    middle = (top + bottom) / 2
    draw.line((left, middle, right, middle), fill=(200, 200, 200))
    actions, real = batch.actions[row], batch.action_mask[row]
    scale = (bottom - top) / 3
    for dim in range(actions.shape[1]):
        steps = np.flatnonzero(real[:, dim])
        points: Sequence[tuple[float, float]] = [
            (
                left + (right - left) * step / max(len(actions) - 1, 1),
                middle - float(np.clip(actions[step, dim], -1.5, 1.5)) * scale,
            )
            for step in steps
        ]
        if len(points) > 1:
            draw.line(points, fill=COLOURS[dim % len(COLOURS)])
