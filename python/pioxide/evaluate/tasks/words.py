"""Words, picture and state together: no two of the three suffice."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from pioxide.evaluate.tasks.scene import disc
from pioxide.evaluate.tasks.table import Floats, TableTask, near

COLOURS = ("0.9 0.1 0.1", "0.1 0.8 0.1", "0.15 0.25 1")
OUT_OF_SIGHT = np.array([9.0, 9.0])
NAMES = ("one", "two", "three")


class Words(TableTask):
    """Bring the tip within 5 cm of one of three targets.

    Where they are is in the state (tip, then targets one to three), and they are not in the picture. The
    instruction names one of them ("named"), or says "touch the lit one" ("lit"): then a large lamp tells
    which, red for one, green for two, blue for three. The lamp's place means nothing, and where the target is
    named neither does its colour.
    """

    # A lamp of each colour; two of them lie out of sight, because all episodes share the model's colours.
    things = "".join(
        disc(f"lamp{i + 1}", 0.24, colour) + disc(f"target{i + 1}", 0.05, colour, hidden=True)
        for i, colour in enumerate(COLOURS)
    )
    image_size = 32
    state_dim = 8
    instructions: ClassVar[Mapping[str, tuple[str, ...]]] = {
        "named": tuple(f"touch target {name}" for name in NAMES),
        "lit": ("touch the lit one",),
    }
    # "lit" with the lamp of one colour.
    parts = tuple(f"lit-{name}" for name in NAMES)

    def _lay(self, random: np.random.Generator, kind: str) -> None:
        while True:
            places = random.uniform(-0.45, 0.45, (4, 2))
            apart = np.linalg.norm(places[:, None] - places, axis=-1)[np.triu_indices(4, 1)]
            if apart.min() > 0.2:
                break
        self._put_tip(places[0])
        for i in range(3):
            self._put(f"target{i + 1}", places[i + 1])
        lamp = random.uniform(-0.25, 0.25, 2)
        lit, named = (int(i) for i in random.integers(3, size=2))
        if kind in self.parts:
            lit = self.parts.index(kind)
        for i in range(3):
            self._put(f"lamp{i + 1}", lamp if i == lit else OUT_OF_SIGHT)
        self._target = named if kind == "named" else lit
        self.instruction = (
            self.instructions["named"][named] if kind == "named" else self.instructions["lit"][0]
        )

    def _state(self) -> Floats:
        return np.concatenate([self.tip, *(self.place(f"target{i + 1}") for i in range(3))])

    def _fulfilled(self) -> bool:
        return near(self.tip, self.place(f"target{self._target + 1}"), 0.05)

    def expert_action(self) -> Floats:
        """See `TableTask`: straight to the right target."""
        return self._towards(self.place(f"target{self._target + 1}"))
