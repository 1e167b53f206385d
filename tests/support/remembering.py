"""A tiny π0.5 with memory, random, for a robot whose pictures carry numbers."""

from dataclasses import replace

import numpy as np

from pioxide.contract import Memory
from pioxide.models import Pi0Config, SiglipConfig
from pioxide.models.memory import MemoryConfig
from pioxide.policy import FlowSampler, Policy, PolicyOptions, agree
from support.loading import HORIZON, SIZE, SLOTS
from support.models import random_model
from support.videos import CAMERAS, coded, picture_number

MEMORY = Memory(frames=3, stride=0.5, every=2)


def remembering(world, **changes):
    return world.contract("pi05", memory=MEMORY, state_in_text=True, **changes)


def small(world, memory=MEMORY):
    contract = replace(remembering(world), memory=memory, model_dim=6)
    eyes = tuple(replace(one, required=one.key == CAMERAS[0]) for one in contract.robot.cameras)
    contract = agree(contract, replace(contract.robot, cameras=eyes))
    config = replace(
        Pi0Config.tiny(pi05=True),
        vision=SiglipConfig(32, 2, 64, 4, patch=16, image_size=SIZE),
        action_horizon=HORIZON,
        action_dim=6,
        text_len=contract.text_len,
        memory=None if memory is None else MemoryConfig(memory.frames, memory.every),
    )
    config = replace(config, language=replace(config.language, vocab=world.tokenizer.vocab_size))
    options = PolicyOptions(FlowSampler(num_steps=1))
    return Policy(random_model(config), contract, world.tokenizer, options=options)


def observation(row, **changes):
    state = np.zeros(3, np.float32)
    cameras = {slot.key: coded(picture_number(i, row)) for i, slot in enumerate(SLOTS) if slot.key}
    return {**cameras, "observation.state": state, "task": "go"} | changes
