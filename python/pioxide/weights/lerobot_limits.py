"""What LeRobot's files can't say of a contract: refused where actions would differ, listed where they may."""

from __future__ import annotations

from pioxide.contract import AbsentCamera, CodecVocabulary, Contract, PromptStyle, Resize, known
from pioxide.errors import ContractError
from pioxide.family import Family

ACTION_TOKENIZER = "lerobot/fast-action-tokenizer"


def refuse(contract: Contract) -> None:
    """Refuses a contract under which LeRobot would move the robot elsewhere.

    Raises:
        ContractError: Its robot turns numbers round, or π0.5's prompt lacks the state, or pads it; or the
            model sees the past.
    """
    where = contract.source or "the contract"
    family, robot = known(contract.family, "family"), known(contract.robot, "robot")
    if not robot.plain:
        raise refused(
            "robot",
            f"{where}: {robot.name} turns signs or maps grippers before the model sees its numbers, and "
            "LeRobot's files have no place for that: LeRobot would move the robot elsewhere. Declare a robot "
            "whose numbers are the model's, and bring them to the model's frame before LeRobot gets them",
        )
    if family is Family.PI05 and not contract.state_in_text:
        raise refused(
            "state_in_text",
            f"{where}: these weights were trained without the state in the prompt, and LeRobot's π0.5 always "
            "writes it there",
        )
    if contract.memory:
        raise refused(
            "memory",
            f"{where}: these weights see the past, and LeRobot's released versions do not: it would show "
            "them the present alone",
        )
    padded = contract.state_text_dim
    if family is not Family.PI0 and isinstance(padded, int) and padded != robot.state_dim:
        raise refused(
            "state_text_dim",
            f"{where}: the prompt holds the state padded to {padded} numbers; LeRobot writes the robot's own "
            f"{robot.state_dim} since its version 0.5",
        )


def left_out(contract: Contract) -> tuple[str, ...]:
    """Returns what LeRobot's files have no place for, in words."""
    said: list[str] = []
    fast, openpi = contract.family is Family.PI0_FAST, contract.prompt_style is PromptStyle.OPENPI
    if openpi and contract.family is Family.PI0:
        said.append('that "_", newlines and outer spaces of an instruction are cleaned: LeRobot keeps them')
    if openpi and fast:
        said.append(
            "that prompts are in lower case with one BOS: LeRobot keeps capitals and puts a second BOS "
            'before "Action: ", so its answers differ'
        )
    if contract.resize is Resize.ANTIALIAS:
        said.append("that images are filtered before they shrink: send LeRobot images of the model's size")
    if contract.absent_camera is AbsentCamera.BLACK:
        said.append("that a camera which is not there is a black image: LeRobot masks it")
    if contract.robot and len(contract.robot.state) > 1:
        parts = ", ".join(part.key for part in contract.robot.state)
        said.append(
            f"that the state comes in parts ({parts}): send LeRobot one observation.state, in this order"
        )
    if contract.default_prompt:
        said.append(f"the instruction where an observation has none, {contract.default_prompt!r}")
    if contract.max_delay:
        said.append(f"the delay of {contract.max_delay} actions that training saw")
    if contract.subtask_style:
        said.append("that its language model writes subtasks, by which it then acts")
    if contract.advantage_style:
        # Its newline was cleaned to a space where openpi's π0 was trained, and LeRobot would keep it.
        behind = "a space" if openpi and contract.family is Family.PI0 else "a newline"
        said.append(
            f"that its prompts say the actions' advantage: send LeRobot each instruction with {behind} and "
            '"Advantage: positive" behind it'
        )
    if contract.fast and not fast:
        said.append("which action tokens its language model learnt beside the flow")
    elif isinstance(contract.fast, CodecVocabulary):
        said.append(f"the {contract.fast.codec} codec of its action tokens: LeRobot reads FAST tokens alone")
    elif fast:
        said.append(
            f"the FAST tokenizer: LeRobot loads {ACTION_TOKENIZER}, unless action_tokenizer_name in "
            "config.json and policy_preprocessor.json names another"
        )
    if fast and isinstance(contract.play_steps, int) and contract.play_steps != contract.action_horizon:
        said.append(
            f"that {contract.play_steps} actions of a chunk are played: LeRobot would decode them as a chunk"
        )
    return tuple(said)


def refused(field: str, message: str) -> ContractError:
    """Returns the error about one field of a contract."""
    error = ContractError(message)
    error.fields = (field,)
    return error
