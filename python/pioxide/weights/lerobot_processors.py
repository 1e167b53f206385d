"""LeRobot's `policy_preprocessor.json` and `policy_postprocessor.json`: what they do to numbers and text.

A step that changes numbers can't be skipped, so a step that is not known here is refused by name.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pioxide.errors import CheckpointError
from pioxide.family import Family
from pioxide.weights.documents import is_text_by_text
from pioxide.weights.lerobot_config import ACTION, texts
from pioxide.weights.lerobot_steps import Normalization, Step, read_normalization, read_steps, refuse_unknown

PREPROCESSOR, POSTPROCESSOR = "policy_preprocessor.json", "policy_postprocessor.json"
NORMALIZER, UNNORMALIZER = "normalizer_processor", "unnormalizer_processor"
RELATIVE, ABSOLUTE = "relative_actions_processor", "absolute_actions_processor"
RENAME, TOKENIZER, ACTION_TOKENIZER = (
    "rename_observations_processor",
    "tokenizer_processor",
    "action_tokenizer_processor",
)
PROMPT = {
    Family.PI0: "pi0_new_line_processor",
    Family.PI05: "pi05_prepare_state_tokenizer_processor_step",
    Family.PI0_FAST: "pi0_fast_prepare_state_tokenizer_processor_step",
}
HARMLESS = ("to_batch_processor", "device_processor")


class Relative(NamedTuple):
    """A relative-actions step."""

    enabled: bool
    exclude: tuple[str, ...]
    names: tuple[str, ...] | None

    def mask(self, dim: int) -> tuple[bool, ...]:
        """Returns which of an action's numbers are relative.

        A name that holds one of the excluded words, case ignored, is absolute; without names all are
        relative, and so is what is beyond the names.
        """
        if not self.enabled:
            return ()
        words = [word.lower() for word in self.exclude if word]
        names = self.names or ()
        kept = [not any(word in name.lower() for word in words) for name in names[:dim]]
        return tuple(kept + [True] * (dim - len(kept)))


@dataclass(frozen=True)
class Processors:
    """What both files say.

    Attributes:
        before: The preprocessor's normaliser.
        after: The postprocessor's.
        relative: None where no such step is there.
        rename_map: The model's feature by the robot's key.
        text_len: Ids in a prompt.
        prompt_key: Where the instruction is.
        text_tokenizer: Its name.
        action_tokenizer: π0-FAST's, or None.
    """

    before: Normalization
    after: Normalization
    relative: Relative | None
    rename_map: dict[str, str]
    text_len: int
    prompt_key: str
    text_tokenizer: str
    action_tokenizer: str | None


def read_processors(root: Path, family: Family) -> Processors | None:
    """Reads both files of a checkpoint; None where neither is there.

    Raises:
        CheckpointError: Only one is there; a step is not known, missing, or in another place than LeRobot has
            it; the two disagree; a file is damaged.
    """
    there = [name for name in (PREPROCESSOR, POSTPROCESSOR) if (root / name).is_file()]
    if not there:
        return None
    if len(there) == 1:
        missing = POSTPROCESSOR if there[0] == PREPROCESSOR else PREPROCESSOR
        raise CheckpointError(f"{root} has {there[0]} and no {missing}: the checkpoint is not whole")
    steps = read_steps(root / PREPROCESSOR), read_steps(root / POSTPROCESSOR)
    wanted = {NORMALIZER, RELATIVE, RENAME, TOKENIZER, PROMPT[family]}
    if family is Family.PI0_FAST:
        wanted.add(ACTION_TOKENIZER)
    before = _by_name(steps[0], wanted, root / PREPROCESSOR)
    after = _by_name(steps[1], {UNNORMALIZER, ABSOLUTE}, root / POSTPROCESSOR)
    _check_order(before, family, root / PREPROCESSOR)
    _check_prompt(before[PROMPT[family]])
    normalizer = read_normalization(before[NORMALIZER], root)
    unnormalizer = read_normalization(after[UNNORMALIZER], root)
    relative = _relative(before.get(RELATIVE), after.get(ABSOLUTE), list(after))
    _check_actions(normalizer, unnormalizer, root)
    tokenizer = before[TOKENIZER]
    _tokenizer(tokenizer)
    action = before.get(ACTION_TOKENIZER)
    return Processors(
        normalizer,
        unnormalizer,
        relative,
        _rename_map(before.get(RENAME)),
        tokenizer.config["max_length"],
        tokenizer.config.get("task_key", "task"),
        str(tokenizer.config.get("tokenizer_name")),
        None if action is None else _action_tokenizer(action),
    )


def _by_name(steps: list[Step], wanted: set[str], file: Path) -> dict[str, Step]:
    found: dict[str, Step] = {}
    for step in steps:
        if step.name in HARMLESS:
            continue
        if step.name not in wanted:
            raise CheckpointError(
                f"{step.where}: pioxide does not know this step, or not in this place; it may change "
                "what the model sees or what the robot does, so LeRobot alone can run this checkpoint"
            )
        if step.name in found:
            raise CheckpointError(f"{step.where}: the step stands twice")
        found[step.name] = step
    optional = {RELATIVE, ABSOLUTE, RENAME}
    if missing := sorted(wanted - optional - found.keys()):
        raise CheckpointError(f"{file} has no step {missing[0]}, without which it is none of LeRobot's own")
    return found


def _check_order(steps: dict[str, Step], family: Family, file: Path) -> None:
    order = list(steps)
    rules = [(RELATIVE, NORMALIZER), (PROMPT[family], TOKENIZER), (RENAME, NORMALIZER)]
    if family is not Family.PI0:
        rules.append((NORMALIZER, PROMPT[family]))
    for first, second in rules:
        if first in steps and order.index(first) > order.index(second):
            raise CheckpointError(f"{file}: {first} comes after {second}; LeRobot has it before")


def _check_prompt(step: Step) -> None:
    refuse_unknown(step, "max_state_dim", "task_key", "include_state_in_prompt")
    if step.config.get("include_state_in_prompt", True) is not True:
        raise CheckpointError(
            f"{step.where}: prompts without the state are another model's (memory of states)"
        )
    if step.config.get("task_key", "task") != "task":
        raise CheckpointError(f"{step.where}: task_key {step.config['task_key']!r}: only 'task' is supported")


def _relative(before: Step | None, after: Step | None, order: list[str]) -> Relative | None:
    enabled = before is not None and before.config.get("enabled", False) is True
    added = after is not None and after.config.get("enabled", False) is True
    if enabled != added:
        raise CheckpointError(
            f"{PREPROCESSOR} makes actions {'relative to' if enabled else 'independent of'} the state, and "
            f"{POSTPROCESSOR} {'adds it' if added else 'does not add it'}: they are of two checkpoints "
            f"({(before or after or order)[3]})"
        )
    if added and order.index(ABSOLUTE) < order.index(UNNORMALIZER):
        assert after is not None
        raise CheckpointError(f"{after.where} comes before {UNNORMALIZER}; LeRobot has it after")
    if before is None:
        return None
    refuse_unknown(before, "enabled", "exclude_joints", "action_names")
    names = before.config.get("action_names")
    return Relative(
        enabled,
        texts(before.config.get("exclude_joints") or [], f"{before.where}: exclude_joints"),
        None if names is None else texts(names, f"{before.where}: action_names"),
    )


def _check_actions(before: Normalization, after: Normalization, root: Path) -> None:
    """Refuses actions that are normalised in one way in training and in another on the way back."""
    rules = before.rule(ACTION), after.rule(ACTION)
    if before.features and ACTION not in before.features:
        return  # a preprocessor for inference alone
    if rules[0] != rules[1]:
        raise CheckpointError(
            f"{root}: {PREPROCESSOR} normalises actions by {rules[0]}, {POSTPROCESSOR} takes back {rules[1]}"
        )
    if ACTION in before.stats and before.stats[ACTION] != after.stats.get(ACTION):
        raise CheckpointError(
            f"{root}: the statistics of actions in {PREPROCESSOR} are not those in {POSTPROCESSOR}"
        )


def _tokenizer(step: Step) -> None:
    refuse_unknown(step, "max_length", "task_key", "padding_side", "padding", "truncation", "tokenizer_name")
    length = step.config.get("max_length", 512)
    if not isinstance(length, int) or isinstance(length, bool) or length < 1:
        raise CheckpointError(f"{step.where}: max_length: expected a whole number, got {length!r}")
    for name, expected in (("padding_side", "right"), ("truncation", True)):
        if step.config.get(name, expected) != expected:
            raise CheckpointError(
                f"{step.where}: {name} {step.config[name]!r}: only {expected!r} is supported"
            )


def _action_tokenizer(step: Step) -> str | None:
    skipped = step.config.get("fast_skip_tokens", 128)
    if skipped != 128:
        raise CheckpointError(f"{step.where}: fast_skip_tokens {skipped!r}: only 128 is supported")
    name = step.config.get("action_tokenizer_name")
    return None if name is None else str(name)


def _rename_map(step: Step | None) -> dict[str, str]:
    renamed: object = None if step is None else step.config.get("rename_map")
    if step is None or not renamed:
        return {}
    if not is_text_by_text(renamed):
        raise CheckpointError(f"{step.where}: rename_map: expected texts by text, got {renamed!r}")
    targets = list(renamed.values())
    if twice := [name for name in targets if targets.count(name) > 1]:
        both = [key for key, value in renamed.items() if value == twice[0]]
        raise CheckpointError(f"{step.where}: {' and '.join(both)} both become {twice[0]}")
    return dict(renamed)
