"""A model of no robot as LeRobot has it, in the way of its published base models: to be fine-tuned there.

Its normalisers look at no feature and hold no statistics; LeRobot puts in those of the dataset.
"""

from __future__ import annotations

from pioxide.contract import Contract, known
from pioxide.family import Family
from pioxide.transforms import NormRule
from pioxide.weights.lerobot_config import ACTION, IMAGES, STATE
from pioxide.weights.lerobot_writer import DEVICE, LerobotFiles, Steps


def base_files(contract: Contract, width: int) -> LerobotFiles:
    """Returns LeRobot's files of a model whose robot nobody stated.

    Args:
        contract: Its family, horizon, text length and image size are needed.
        width: Numbers of a state and an action inside the model.

    Raises:
        ContractError: One of these is unknown.
    """
    contract.require(
        "family", "action_horizon", "text_len", "image_size", doing="writing LeRobot's config.json"
    )
    family, horizon = known(contract.family, "family"), known(contract.action_horizon, "action_horizon")
    length, size = known(contract.text_len, "text_len"), known(contract.image_size, "image_size")
    mode = NormRule.openpi(family.normalization).mode.upper()
    modes = {"VISUAL": "IDENTITY", "STATE": mode, "ACTION": mode}
    slots = [camera.slot for camera in contract.cameras or ()] or family.cameras
    images = [slot if slot.startswith(IMAGES) else f"{IMAGES}.{slot}" for slot in slots]
    config = {
        "input_features": {
            STATE: {"type": "STATE", "shape": [width]},
            **{key: {"type": "VISUAL", "shape": [3, size, size]} for key in images},
        },
        "output_features": {ACTION: {"type": "ACTION", "shape": [width]}},
        "normalization_mapping": modes,
        "use_relative_actions": False,
        "chunk_size": horizon,
        "n_action_steps": horizon,
        "max_state_dim": width,
        "max_action_dim": width,
        "image_resolution": [size, size],
        "tokenizer_max_length": length,
    }
    if family.is_flow:
        config["num_inference_steps"] = contract.num_steps or 10
    relative = {"enabled": False, "exclude_joints": ["gripper"], "action_names": None}
    normalizer = {"eps": 1e-8, "features": {}, "norm_map": modes}
    before = Steps("policy_preprocessor")
    before.add("rename_observations_processor", {"rename_map": {}})
    before.add("to_batch_processor")
    if family is Family.PI0:
        before.add_prompt(family, length)
        before.add("device_processor", DEVICE)
    before.add("relative_actions_processor", relative)
    before.add("normalizer_processor", normalizer)
    if family is not Family.PI0:
        before.add_prompt(family, length)
        before.add("device_processor", DEVICE)
    after = Steps("policy_postprocessor")
    after.add("unnormalizer_processor", normalizer)
    after.add("absolute_actions_processor", {"enabled": False})
    after.add("device_processor", DEVICE)
    said = (
        "whose numbers they are, which nobody stated: LeRobot's files are those of a base model, to be "
        "fine-tuned there; with --robot (a contract with a robot) they are whole",
    )
    return LerobotFiles(config, before.document, after.document, {}, {}, said)
