"""What a dataset, a tokenizer, weights and a robot must agree on, and the computation that follows from it.

Contract, UNKNOWN, CameraSlot, FastVocabulary, CodecVocabulary, PromptStyle, Resize, AbsentCamera,
    SubtaskStyle, AdvantageStyle, Memory
load_contract, load_contracts, save_contract: the file `contract.json`, of one robot or of several
one_a_robot, choose_robot, robot_name, shared_contract, refuse_other_models: several robots, one model
model_card: the same in words, for a checkpoint's README.md
differences, merge, refuse_differences: two contracts that meet
assign_cameras: the robot's cameras in the model's slots
Pipeline, ModelInputs, Numbers: robot frames to model inputs, a model's answer to robot actions
"""

from pioxide.contract.cameras import assign_cameras
from pioxide.contract.card import CARD, model_card
from pioxide.contract.compare import (
    Difference,
    describe,
    differences,
    merge,
    moved_names,
    refuse_differences,
    robot_differences,
)
from pioxide.contract.contract import (
    FIELDS,
    UNKNOWN,
    AbsentCamera,
    AdvantageStyle,
    CameraSlot,
    CodecVocabulary,
    Contract,
    FastVocabulary,
    Memory,
    PromptStyle,
    Resize,
    SubtaskStyle,
    Unknown,
    known,
)
from pioxide.contract.document import from_json, to_json
from pioxide.contract.numbers import EpisodeNumbers, Numbers, StateRange, check_delta_mask
from pioxide.contract.openpi import openpi_contract
from pioxide.contract.pipeline import (
    Frames,
    ModelInputs,
    Pipeline,
    action_vocabulary,
    check_codec,
    make_prompts,
    make_subtask_prompts,
)
from pioxide.contract.several import (
    choose_robot,
    one_a_robot,
    refuse_other_models,
    robot_name,
    shared_contract,
)
from pioxide.contract.stored import FILE_NAME, file_json
from pioxide.contract.stored import load as load_contract
from pioxide.contract.stored import load_all as load_contracts
from pioxide.contract.stored import save as save_contract

__all__ = [
    "CARD",
    "FIELDS",
    "FILE_NAME",
    "UNKNOWN",
    "AbsentCamera",
    "AdvantageStyle",
    "CameraSlot",
    "CodecVocabulary",
    "Contract",
    "Difference",
    "EpisodeNumbers",
    "FastVocabulary",
    "Frames",
    "Memory",
    "ModelInputs",
    "Numbers",
    "Pipeline",
    "PromptStyle",
    "Resize",
    "StateRange",
    "SubtaskStyle",
    "Unknown",
    "action_vocabulary",
    "assign_cameras",
    "check_codec",
    "check_delta_mask",
    "choose_robot",
    "describe",
    "differences",
    "file_json",
    "from_json",
    "known",
    "load_contract",
    "load_contracts",
    "make_prompts",
    "make_subtask_prompts",
    "merge",
    "model_card",
    "moved_names",
    "one_a_robot",
    "openpi_contract",
    "refuse_differences",
    "refuse_other_models",
    "robot_differences",
    "robot_name",
    "save_contract",
    "shared_contract",
    "to_json",
]
