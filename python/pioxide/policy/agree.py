"""One contract out of what a checkpoint, a robot and a person say, or an error where they disagree."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from pioxide.codec import Advantage, TextTokenizer
from pioxide.contract import (
    UNKNOWN,
    AdvantageStyle,
    CameraSlot,
    Contract,
    Memory,
    Unknown,
    assign_cameras,
    known,
    merge,
    openpi_contract,
)
from pioxide.engine import FlowSampler, Sampler, TokenSampler
from pioxide.errors import ContractError, InputError
from pioxide.family import Family
from pioxide.models import Pi0Config, Pi0FastConfig
from pioxide.models.memory import MemoryConfig
from pioxide.robots import ROBOTS, RobotSpec, droid

# What running a policy depends on besides statistics, which an identity needs none of.
NEEDED = (
    "family",
    "robot",
    "cameras",
    "absent_camera",
    "delta_mask",
    "state_norm",
    "action_norm",
    "state_in_text",
    "prompt_style",
    "text_len",
    "action_horizon",
    "model_dim",
    "image_size",
    "resize",
    "memory",
)


def find_robot(robot: RobotSpec | str, family: Family) -> RobotSpec:
    """Returns a robot by its name, or itself.

    Raises:
        InputError: There is no robot of that name.
    """
    if isinstance(robot, RobotSpec):
        return robot
    if robot == "droid" and family is Family.PI0_FAST:
        return droid(fast_cameras=True)
    if robot not in ROBOTS:
        raise InputError(
            f"there is no robot {robot!r}; expected one of {', '.join(sorted(ROBOTS))}, the checkpoint's own "
            "where it names one, or a RobotSpec (--robot FILE.yaml)"
        )
    return ROBOTS[robot]()


def agree(
    checkpoint: Contract,
    robot: RobotSpec | str | None = None,
    said: Contract | None = None,
    cameras: Mapping[str, str | None] | None = None,
) -> Contract:
    """Returns what all say together, complete for running a policy.

    Args:
        checkpoint: What the checkpoint says of itself.
        robot: Whose numbers and cameras; None where the checkpoint says it.
        said: What a person adds where the checkpoint is silent.
        cameras: A robot's camera key by image slot, where names do not tell; None for an empty slot.

    Raises:
        ContractError: Two of them disagree, or a field that is needed stays unknown.
        InputError: There is no robot of that name.
    """
    where = checkpoint.source or "the checkpoint"
    whole = checkpoint if said is None else merge(checkpoint, said, names=(where, "your contract"))
    if robot is None:
        whole.require("robot", doing="running this policy")
        spec = known(whole.robot, "robot")
    else:
        spec = find_robot(robot, known(whole.family, "family"))
    mask = UNKNOWN if spec.delta_mask is None else spec.delta_mask
    says = Contract(robot=spec, delta_mask=mask, source=f"the robot {spec.name}")
    whole = merge(whole, says, names=(where, says.source))
    slots = whole.cameras
    if slots is UNKNOWN:
        slots = tuple(CameraSlot(slot) for slot in _family_slots(known(whole.family, "family"), spec))
    whole = replace(whole, cameras=assign_cameras(slots, spec, cameras, where))
    if whole.model_dim is UNKNOWN and whole.family is Family.PI0_FAST:
        whole = replace(whole, model_dim=spec.action_dim)  # its actions are the robot's, not padded
    whole.require(*NEEDED, doing="running this policy")
    return whole


def model_contract(config: Pi0Config | Pi0FastConfig) -> Contract:
    """Returns what is known of a model trained as openpi trains: its sizes and cameras; the rest is open."""
    return replace(
        openpi_contract(config.family),
        cameras=tuple(CameraSlot(slot) for slot in config.cameras),
        text_len=config.text_len,
        action_horizon=config.action_horizon,
        model_dim=config.action_dim,
        image_size=config.vision.image_size,
        # Its frames are known, and how far they are apart is not.
        memory=UNKNOWN if isinstance(config, Pi0Config) and config.memory else None,
        source="the model",
    )


def check_model(contract: Contract, config: Pi0Config | Pi0FastConfig) -> None:
    """Refuses a model that is not the contract's.

    Raises:
        ContractError: Its family, sizes or cameras are others; shows both.
    """
    slots = tuple(camera.slot for camera in known(contract.cameras, "cameras"))
    robot = known(contract.robot, "robot")
    pairs = [
        ("family", contract.family, config.family),
        ("action_horizon", contract.action_horizon, config.action_horizon),
        ("model_dim", contract.model_dim, config.action_dim),
        ("text_len", contract.text_len, config.text_len),
        ("image_size", contract.image_size, config.vision.image_size),
        ("cameras", slots, config.cameras),
        (
            "memory",
            _layout(contract.memory),
            _layout(config.memory if isinstance(config, Pi0Config) else None),
        ),
    ]
    if config.family is Family.PI0_FAST:
        pairs.append(("robot.action_dim", robot.action_dim, config.action_dim))
    apart = [
        f"  {name}: the contract has {said}, the model {has}"
        for name, said, has in pairs
        if said is not UNKNOWN and said != has
    ]
    if apart:
        raise ContractError("the contract is not this model's:\n" + "\n".join(apart))


def _layout(memory: Memory | MemoryConfig | Unknown | None) -> str | Unknown:
    """Returns of a memory what the network is built by; how far frames are apart changes nothing of it."""
    if isinstance(memory, Unknown):
        return UNKNOWN
    return "none" if memory is None else f"{memory.frames} frames, every {memory.every}"


def check_tokenizer(tokenizer: TextTokenizer, config: Pi0Config | Pi0FastConfig) -> None:
    """Refuses a text vocabulary that is not the weights': its ids would be other words, or none.

    Raises:
        ContractError: It has another number of ids than the model.
    """
    if tokenizer.vocab_size != config.language.vocab:
        raise ContractError(
            f"the tokenizer has {tokenizer.vocab_size} ids, and the model's vocabulary "
            f"{config.language.vocab}: it is not the one that these weights were trained with; pass that "
            "one (tokenizer=)"
        )


def check_advantage(contract: Contract, asked: Advantage | None, guidance: float) -> None:
    """Refuses to ask weights about an advantage that they don't know.

    Args:
        contract: The weights'.
        asked: What prompts are to say; good actions are asked of any weights, and nothing is said to those
            that know no advantage.
        guidance: 1 for none, see `FlowSampler`.

    Raises:
        ContractError: They were trained on no such prompts, or nobody says whether they were.
    """
    if guidance == 1 and asked is Advantage.POSITIVE:
        return
    doing = f"guidance={guidance:g}" if guidance != 1 else f"advantage={asked and str(asked)!r}"
    if guidance != 1 and asked is None:
        raise ContractError(f"{doing}: there is nothing to guide towards where advantage is None")
    contract.require("advantage_style", doing=doing)
    style, without = contract.advantage_style, guidance != 1 or asked is None
    if style is None or (without and style is AdvantageStyle.TEXT):
        why = "know no advantage" if style is None else "never saw a prompt without an advantage"
        raise ContractError(
            f"{doing}: {contract.source or 'the contract'} says that these weights {why}; leave the option "
            "out, or train with --data.advantage and a --data.advantage-dropout"
        )


def _family_slots(family: Family, robot: RobotSpec) -> tuple[str, ...]:
    """Returns the image slots of a family: π0-FAST has its own for DROID, and π0's for other robots."""
    slots = {camera.slot for camera in robot.cameras}
    if family is Family.PI0_FAST and not slots & set(family.cameras[1:]):
        return Family.PI0.cameras
    return family.cameras


def own_sampler(contract: Contract, chosen: Sampler | None) -> Sampler:
    """Returns the chosen one or the model's own; steps that nobody chose are the contract's."""
    if chosen is None:
        chosen = FlowSampler() if known(contract.family, "family").is_flow else TokenSampler()
    if isinstance(chosen, FlowSampler) and chosen.num_steps is None and isinstance(contract.num_steps, int):
        return replace(chosen, num_steps=contract.num_steps)
    return chosen


def check_trained_delay(contract: Contract, sampler: Sampler) -> None:
    """Refuses trained real-time chunking for weights that were not trained for it.

    Raises:
        ContractError: They were not, or nobody says.
    """
    if not isinstance(sampler, FlowSampler) or sampler.realtime != "trained":
        return
    contract.require("max_delay", doing='realtime="trained"')
    if contract.max_delay == 0:
        raise ContractError(
            'realtime="trained": these weights were not trained to continue a chunk (max_delay is 0); use an '
            "RTCConfig, which guides any weights"
        )
