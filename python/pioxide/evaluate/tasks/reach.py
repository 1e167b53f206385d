"""From pixels alone: a red disc seen from above, its place in no number."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import numpy as np

from pioxide.evaluate.tasks.scene import disc
from pioxide.evaluate.tasks.table import Floats, TableTask, near


class Reach(TableTask):
    """Bring the tip within 5 cm of the disc's middle. The state is the tip's own place."""

    things = disc("disc", 0.08, "0.9 0.1 0.1")
    instructions: ClassVar[Mapping[str, tuple[str, ...]]] = {"reach": ("touch the red disc",)}

    def _lay(self, random: np.random.Generator, kind: str) -> None:
        (self.instruction,) = self.instructions[kind]
        self._put_tip(random.uniform(-0.42, 0.42, 2))
        self._put("disc", random.uniform(-0.42, 0.42, 2))

    def _fulfilled(self) -> bool:
        return near(self.tip, self.place("disc"), 0.05)

    def expert_action(self) -> Floats:
        """See `TableTask`: straight to the disc."""
        return self._towards(self.place("disc"))
