"""`Pipeline(contract)`: robot frames to model inputs and a model's answer to robot actions, in batches.

`fit`, `tokenize`, training, `Policy` and the server all call this one. NumPy and Rust only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from pioxide.codec import (
    ActionCodec,
    Advantage,
    FastCodec,
    Pi0FastPrompts,
    Pi0Prompts,
    Pi05Prompts,
    SubtaskPrompts,
    TextTokenizer,
    with_advantage,
)
from pioxide.contract.contract import (
    AbsentCamera,
    CodecVocabulary,
    Contract,
    FastVocabulary,
    Resize,
    known,
)
from pioxide.contract.numbers import Numbers, StateRange
from pioxide.errors import ContractError, InputError
from pioxide.family import Family
from pioxide.robots import RobotInput
from pioxide.transforms import Pad
from pioxide.transforms.images import interpolate_with_pad, resize_with_pad

Prompts = Pi0Prompts | Pi05Prompts | Pi0FastPrompts


class ModelInputs(NamedTuple):
    """What a model reads of B observations.

    Attributes:
        images: By slot in the model's order, [B, S, S, 3]: uint8, or float32 in [-1, 1] where the contract
            resizes as LeRobot does.
        present: By slot, [B] whether the camera was there; where it was not, the image is black.
        tokens: B prompts' ids, not padded.
        truncated: [B] whether a prompt's end was cut.
        state: [B, W] float32 normalised and padded where the network reads a vector (π0), else None.
        robot_state: [B, S] float64 in the robot's units: what the way back needs.
        state_range: Which numbers of each state are outside the statistics.
    """

    images: dict[str, NDArray[Any]]
    present: dict[str, NDArray[np.bool_]]
    tokens: tuple[NDArray[np.int32], ...]
    truncated: NDArray[np.bool_]
    state: NDArray[np.float32] | None
    robot_state: NDArray[np.float64]
    state_range: list[StateRange]

    def __len__(self) -> int:
        """Returns B."""
        return len(self.tokens)


class Frames(NamedTuple):
    """B observations, checked, before images and text are made ready.

    Attributes:
        images: By robot key, [h, w, 3] uint8; absent cameras are not there.
        prompts: Instructions.
        state: [B, S] float64 normalised.
        robot_state: [B, S] float64 in the robot's units.
    """

    images: list[dict[str, NDArray[np.uint8]]]
    prompts: list[str]
    state: NDArray[np.float64]
    robot_state: NDArray[np.float64]

    @classmethod
    def joined(cls, several: Sequence[Frames]) -> Frames:
        """Returns the observations of several, in order, as `Pipeline.read` of all of them would."""
        return cls(
            [one for frames in several for one in frames.images],
            [one for frames in several for one in frames.prompts],
            np.concatenate([frames.state for frames in several]),
            np.concatenate([frames.robot_state for frames in several]),
        )


class Pipeline:
    """Everything between a robot and a model that follows from their contract. Holds no state.

    Attributes:
        contract: Complete for what this pipeline does.
        numbers: States and actions.
        prompts: The family's prompts, None where no tokenizer was given.
    """

    def __init__(
        self,
        contract: Contract,
        tokenizer: TextTokenizer | None = None,
        codec: ActionCodec | None = None,
    ) -> None:
        """Refuses what can't work before the first frame.

        Args:
            contract: From a dataset and its settings, or from a checkpoint and a robot.
            tokenizer: Needed for prompts; states and actions alone do without.
            codec: π0-FAST's action tokens.

        Raises:
            ContractError: A field that is needed is unknown, or parts disagree.
        """
        self.contract = contract
        self.numbers = Numbers.of(contract)
        self.family = known(contract.family, "family")
        self.prompts = None if tokenizer is None else make_prompts(contract, tokenizer, codec)
        self.codec = codec
        if codec is not None:
            check_codec(contract, codec)
        model_dim = contract.model_dim
        self._pad = (
            Pad(self.numbers.robot.state_dim, model_dim)
            if self.family.state_is_vector and isinstance(model_dim, int)
            else None
        )

    def apply(self, observations: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> ModelInputs:
        """Brings one observation or a batch of them to the model's inputs: `read`, `images`, `tokenize`.

        Args:
            observations: Under the robot's keys, flat ("observation/image") or nested; one is a batch of one.

        Raises:
            InputError: A key is missing or unknown, a value is of another shape, dtype or range; says which
                observation, where there are several.
            ContractError: A field that inputs depend on is unknown.
        """
        frames = self.read(observations)
        images, present = self.images(frames)
        tokens, truncated = self.tokenize(frames.prompts, frames.state)
        return ModelInputs(
            images,
            present,
            tokens,
            truncated,
            self.state_vector(frames.state),
            frames.robot_state,
            self.numbers.state_range(frames.state),
        )

    def read(self, observations: Mapping[str, Any] | Sequence[Mapping[str, Any]]) -> Frames:
        """Checks observations and normalises their states; arguments and errors as in `apply`."""
        several = [observations] if isinstance(observations, Mapping) else list(observations)
        if not several:
            raise InputError("observations: expected at least one")
        seen = [self._seen(one, i if len(several) > 1 else None) for i, one in enumerate(several)]
        raw = np.stack([one.raw_state for one in seen])
        with np.errstate(over="ignore"):
            state = self.numbers.state.apply(np.stack([one.state for one in seen]))
        self._check_finite(state, raw)
        return Frames([one.images for one in seen], [self._prompt(one) for one in seen], state, raw)

    def look(self, observations: Sequence[Mapping[str, Any]]) -> Frames:
        """Reads the images alone, for `images`: what else the observations hold is not looked at.

        Raises:
            InputError: A camera is missing, a key unknown, or an image is none.
        """
        nothing = np.zeros((len(observations), 0))
        pictures = [self.numbers.robot.pictures(one) for one in observations]
        return Frames(pictures, [""] * len(pictures), nothing, nothing)

    def state_vector(self, state: NDArray[np.float64]) -> NDArray[np.float32] | None:
        """Returns normalised states [B, S] padded to [B, W] where the network reads them, else None."""
        return None if self._pad is None else self._pad.apply(state).astype(np.float32)

    def invert(self, model_actions: ArrayLike, robot_states: ArrayLike) -> NDArray[np.float64]:
        """Brings a model's answers [B, H, W] to actions [B, H, D] in the robot's units.

        Args:
            model_actions: As the network gave them: normalised, relative where the contract says so.
            robot_states: [B, S] in the robot's units, see `ModelInputs.robot_state`.
        """
        return self.numbers.invert_actions(model_actions, robot_states)

    def images(self, frames: Frames) -> tuple[dict[str, NDArray[Any]], dict[str, NDArray[np.bool_]]]:
        """Resizes the images of B observations; see `ModelInputs.images` and `present`.

        A slot that no observation fills is left out, unless the contract wants a black image there.
        """
        contract = self.contract
        contract.require("cameras", "image_size", "resize", "absent_camera", doing="preparing images")
        size = known(contract.image_size, "image_size")
        in_float = contract.resize is Resize.INTERPOLATE
        fitted = interpolate_with_pad if in_float else resize_with_pad
        black = np.full((size, size, 3), -1, np.float32) if in_float else np.zeros((size, size, 3), np.uint8)
        images: dict[str, NDArray[Any]] = {}
        present: dict[str, NDArray[np.bool_]] = {}
        for camera in known(contract.cameras, "cameras"):
            given = [None if camera.key is None else one.get(str(camera.key)) for one in frames.images]
            if all(one is None for one in given) and contract.absent_camera is AbsentCamera.MASKED:
                continue
            images[camera.slot] = np.stack([black if one is None else fitted(one, size) for one in given])
            present[camera.slot] = np.array([one is not None for one in given], np.bool_)
        seen = np.any(list(present.values()), axis=0) if present else np.zeros(len(frames.images), np.bool_)
        if not seen.all():
            which = f" {int(np.argmin(seen))}" if len(frames.images) > 1 else ""
            raise InputError(f"{self.numbers.robot.name}: none of its cameras is in the observation{which}")
        return images, present

    def tokenize(
        self,
        prompts: Sequence[str],
        states: NDArray[np.float64],
        advantage: Advantage | None = Advantage.POSITIVE,
    ) -> tuple[tuple[NDArray[np.int32], ...], NDArray[np.bool_]]:
        """Returns the ids of B prompts, not padded, and whether each was cut.

        Args:
            prompts: Instructions.
            states: [B, S] normalised.
            advantage: What prompts say of the actions to weights that know it; None for nothing.

        Raises:
            InputError: There is no tokenizer, or a prompt says its advantage already.
        """
        if self.contract.advantage_style:
            prompts = [with_advantage(prompt, advantage) for prompt in prompts]
        if self.prompts is None:
            raise InputError("this pipeline was made without a tokenizer, which prompts need")
        if isinstance(self.prompts, Pi0Prompts):
            encoded = [self.prompts.encode(prompt) for prompt in prompts]
        else:
            encoded = [self.prompts.encode(p, state) for p, state in zip(prompts, states, strict=True)]
        ids = tuple(one.tokens[: min(one.length, len(one.tokens))] for one in encoded)
        return ids, np.array([one.truncated for one in encoded], np.bool_)

    def _seen(self, observation: Mapping[str, Any], index: int | None) -> RobotInput:
        try:
            return self.numbers.robot.apply(observation)
        except InputError as error:
            if index is None:
                raise
            raise InputError(f"observation {index}: {error}") from error

    def _check_finite(self, state: NDArray[np.float64], raw: NDArray[np.float64]) -> None:
        """Refuses normalised states that the network's float32 can't hold."""
        held = np.abs(state) <= np.finfo(np.float32).max
        if not held.all():
            row, dim = np.argwhere(~held)[0]
            names = self.numbers.robot.state_names
            which = f"observation {row}: " if len(state) > 1 else ""
            raise InputError(
                f"{which}{self.numbers.robot.name}: number {dim}{f' ({names[dim]})' if names else ''} of the "
                f"state is {raw[row, dim]:.6g}, {state[row, dim]:.6g} when normalised, past float32: compare "
                "its units with the statistics'"
            )

    def _prompt(self, seen: RobotInput) -> str:
        prompt = seen.prompt
        if prompt is None or not prompt.strip():
            prompt = self.contract.default_prompt or prompt
        if prompt is None or not prompt.strip():
            got = "nothing" if prompt is None else repr(prompt)
            raise InputError(
                f"{self.numbers.robot.prompt_key}: expected an instruction, got {got}; put one into the "
                "observation, or give the contract a default_prompt"
            )
        return prompt


def make_prompts(contract: Contract, tokenizer: TextTokenizer, codec: ActionCodec | None) -> Prompts:
    """Returns the prompts of a contract's family and style.

    Raises:
        ContractError: The family, its text length, its style, or whether it reads the state, is unknown, or
            the family can't do what is said.
    """
    contract.require("family", "text_len", "prompt_style", "state_in_text", doing="writing prompts")
    if contract.state_in_text:
        contract.require("state_text_dim", doing="writing the state into prompts")
    family, length = known(contract.family, "family"), known(contract.text_len, "text_len")
    reads = {Family.PI0: False, Family.PI0_FAST: True}.get(family, contract.state_in_text)
    if contract.state_in_text != reads:
        raise ContractError(
            f"state_in_text: {contract.source or 'the contract'} says {contract.state_in_text}, and the "
            f"prompt of {family.symbol} {'always' if reads else 'never'} holds the state"
        )
    style = known(contract.prompt_style, "prompt_style").value
    padded = contract.state_text_dim if isinstance(contract.state_text_dim, int) else None
    if family is Family.PI0_FAST:
        return Pi0FastPrompts(tokenizer, codec, length, style=style, state_width=padded)
    if family is Family.PI05 and contract.state_in_text:
        return Pi05Prompts(tokenizer, length, style=style, state_width=padded)
    return Pi0Prompts(tokenizer, length, style=style)


def make_subtask_prompts(contract: Contract, tokenizer: TextTokenizer) -> SubtaskPrompts:
    """Returns how a contract's model is asked for subtasks.

    Raises:
        ContractError: It is not π0.5, it did not learn to write subtasks, or nobody says whether it did.
    """
    doing = "writing subtasks"
    contract.require("family", "text_len", "state_in_text", "subtask_style", doing=doing)
    family = known(contract.family, "family")
    if family is not Family.PI05:
        raise ContractError(f"subtask_style: {family.symbol} writes no subtasks, π0.5 does")
    if contract.subtask_style is None:
        raise ContractError(
            f"subtask_style: {contract.source or 'the contract'} says that these weights did not learn to "
            "write subtasks; train them on some (pioxide train --data.subtasks), or give a session one"
        )
    reads = known(contract.state_in_text, "state_in_text")
    if reads:
        contract.require("state_text_dim", doing=doing)
    padded = contract.state_text_dim if isinstance(contract.state_text_dim, int) else None
    length = known(contract.text_len, "text_len")
    fast = contract.fast
    action_tokens = fast.vocab_size if isinstance(fast, FastVocabulary | CodecVocabulary) else 0
    return SubtaskPrompts(
        tokenizer, length, reads_state=reads, state_width=padded, action_tokens=action_tokens
    )


def action_vocabulary(codec: ActionCodec) -> FastVocabulary | CodecVocabulary:
    """Returns what identifies an action codec in a contract."""
    if isinstance(codec, FastCodec):
        return FastVocabulary(
            codec.fingerprint, codec.vocab_size, codec.scale, codec.min_token, codec.horizon, codec.dim
        )
    return CodecVocabulary(codec.kind, codec.fingerprint, codec.vocab_size, codec.horizon, codec.dim)


def check_codec(contract: Contract, codec: ActionCodec) -> None:
    """Refuses an action codec that was fitted for something else than the contract's chunks.

    Raises:
        ContractError: It is not the contract's, or its own horizon or width is another.
    """
    found, wanted = action_vocabulary(codec), contract.fast
    if wanted and wanted.sha256 != found.sha256:
        raise ContractError(
            f"{_named(found)} has {found.vocab_size} tokens ({found.sha256[:12]}), and "
            f"{contract.source or 'the contract'} was made with {_named(wanted)} of {wanted.vocab_size} "
            f"({wanted.sha256[:12]}): its ids mean other actions; pass that one"
        )
    expected = {
        "horizon": contract.action_horizon,
        "action_dim": contract.robot and contract.robot.action_dim,
    }
    for name, number in expected.items():
        fitted = getattr(found, name)
        if fitted is not None and number and fitted != number:
            raise ContractError(
                f"{_named(found)} was fitted for chunks {found.horizon or 'any'} x "
                f"{found.action_dim or 'any'} (so its files say), and here {name} is {number}; fit one for "
                "these chunks"
            )


def _named(vocabulary: FastVocabulary | CodecVocabulary) -> str:
    if isinstance(vocabulary, FastVocabulary):
        return "the FAST tokenizer"
    return f"the {vocabulary.codec} codec"
