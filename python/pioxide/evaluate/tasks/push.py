"""Pushing a puck to a goal, from pixels: contact, and a way that depends on where the puck goes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from pioxide.evaluate.tasks.scene import TIP_RADIUS, disc, puck
from pioxide.evaluate.tasks.table import Floats, TableTask, near

RADIUS = 0.06


class Push(TableTask):
    """Push the red puck within 6 cm of the green goal. The state is the tip's own place.

    The tip begins on the left, the puck in the middle, the goal on the right.
    """

    things = disc("goal", 0.08, "0.1 0.8 0.1") + puck(RADIUS, "0.9 0.1 0.1", 2.0)
    max_steps = 60
    pace = 0.04
    instructions: ClassVar[Mapping[str, tuple[str, ...]]] = {"push": ("push the red puck to the green goal",)}

    def _lay(self, random: np.random.Generator, kind: str) -> None:
        (self.instruction,) = self.instructions[kind]
        self._put_tip(random.uniform([-0.42, -0.3], [-0.3, 0.3]))
        self.data.joint("puck_x").qpos[0], self.data.joint("puck_y").qpos[0] = random.uniform(
            [-0.1, -0.25], [0.05, 0.25]
        )
        self._put("goal", random.uniform([0.25, -0.3], [0.4, 0.3]))

    def _fulfilled(self) -> bool:
        return near(self.place("puck"), self.place("goal"), 0.06)

    def expert_action(self) -> Floats:
        """See `TableTask`: first behind the puck, then along the line to the goal."""
        puck, goal = self.place("puck"), self.place("goal")
        way = goal - puck
        left = float(np.linalg.norm(way))
        if left < 0.03:
            return self.tip
        ahead = way / left
        from_puck = self.tip - puck
        along = float(from_puck @ ahead)
        aside = from_puck - along * ahead
        off = float(np.linalg.norm(aside))
        if along > -0.03:  # beside the puck or past it: round it
            return self._towards(puck - ahead * 0.13 + aside / max(off, 1e-6) * 0.12)
        behind = puck - ahead * (RADIUS + TIP_RADIUS)
        if off > 0.03:
            return self._towards(behind - ahead * 0.04)
        return self._towards(behind + ahead * min(self.pace, left))
