"""What a careless person does to contracts, pipelines and policies is refused before a robot moves."""

import threading
from dataclasses import replace

import numpy as np
import pytest
from flax import nnx

from pioxide import demo
from pioxide.codec import FastCodec, TextTokenizer
from pioxide.contract import CameraSlot, Contract, Pipeline, assign_cameras, openpi_contract
from pioxide.errors import CheckpointError, ContractError, InputError
from pioxide.family import Family
from pioxide.models import Pi0, Pi0Config
from pioxide.policy import FlowSampler, Policy, PolicyOptions, RTCConfig, Session, agree, model_contract
from pioxide.policy.load import load_policy_parts
from pioxide.robots import aloha, so101
from pioxide.transforms import NormRule, Stats
from pioxide.weights import load
from support.checkpoints import HEADS
from support.lerobot_files import write_lerobot
from support.text_model import write_text_model

IDENTITY = NormRule.openpi("identity")
FRONT, WRIST = "observation.images.front", "observation.images.wrist"


@pytest.fixture(scope="module")
def tokenizer() -> TextTokenizer:
    return TextTokenizer.load(demo.text_model_path())


def complete(family: str = "pi0", **changes) -> Contract:
    """A contract of a small model and an SO-101, whose numbers pass as they are unless told otherwise."""
    said = replace(
        openpi_contract(Family(family)),
        robot=so101(delta=False),
        cameras=(CameraSlot("base_0_rgb", FRONT), CameraSlot("left_wrist_0_rgb", WRIST, required=False)),
        delta_mask=(),
        state_norm=IDENTITY,
        action_norm=IDENTITY,
        state_in_text=family != "pi0",
        text_len=60,
        action_horizon=6,
        model_dim=8 if family == "pi0" else 6,
        image_size=28,
    )
    return replace(said, **changes)


def seen(**changes) -> dict:
    image = np.zeros((30, 40, 3), np.uint8)
    return {FRONT: image, "observation.state": np.zeros(6), "task": "pick it up", **changes}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("delta_mask", (6, -1)),
        ("delta_mask", "6,-1"),
        ("state_text_dim", "32"),
        ("state_in_text", "False"),
        ("state_norm", "quantile"),
        ("robot", "so101"),
        ("default_prompt", 7),
        ("absent_camera", 1),
        ("norm_stats", [1.0]),
        ("fast", "lab/fast"),
    ],
)
def test_a_value_that_would_be_taken_for_another_is_refused(field, value):
    with pytest.raises(InputError, match=field):
        Contract(**{field: value})


def test_one_camera_does_not_fill_two_slots():
    slots = (CameraSlot("base_0_rgb"), CameraSlot("left_wrist_0_rgb"))
    robot = so101(delta=False)
    with pytest.raises(ContractError, match=f"{FRONT}' fills two slots"):
        assign_cameras(slots, robot, {"left_wrist_0_rgb": FRONT})
    with pytest.raises(InputError, match="fills two slots"):
        Contract(cameras=(CameraSlot("a", FRONT), CameraSlot("b", FRONT)))


@pytest.mark.parametrize(("family", "said"), [("pi0", True), ("pi0_fast", False)])
def test_a_state_in_the_prompt_that_the_family_cannot_have_is_refused(family, said, tokenizer):
    with pytest.raises(ContractError, match="state_in_text"):
        Pipeline(complete(family, state_in_text=said), tokenizer)


def test_a_robot_of_a_batch_that_sees_nothing_is_named(tokenizer):
    robot = so101(delta=False)
    cameras = tuple(replace(camera, required=False) for camera in robot.cameras)
    pipeline = Pipeline(complete(robot=replace(robot, cameras=cameras)), tokenizer)
    blind = {key: value for key, value in seen().items() if key != FRONT}
    with pytest.raises(InputError, match="none of its cameras is in the observation 1"):
        pipeline.apply([seen(), blind])
    with pytest.raises(InputError, match=r"none of its cameras is in the observation$"):
        pipeline.apply(blind)


@pytest.mark.parametrize("family", ["pi0", "pi05"])
@pytest.mark.parametrize("huge", [1e39, -1e308])
def test_a_state_past_float32_is_an_error_that_names_the_joint(family, huge, tokenizer):
    pipeline = Pipeline(complete(family), tokenizer)
    state = np.zeros(6)
    state[2] = huge
    with pytest.raises(InputError, match=r"observation 1.*number 2.*float32"):
        pipeline.apply([seen(), seen(**{"observation.state": state})])


def test_denormal_states_pass(tokenizer):
    inputs = Pipeline(complete(), tokenizer).apply(seen(**{"observation.state": np.full(6, 5e-324)}))
    assert inputs.state is not None
    assert np.isfinite(inputs.state).all()


def test_observations_may_share_their_arrays_and_keep_them(tokenizer):
    one = seen(**{"observation.state": np.arange(6.0)})
    kept = {key: np.copy(value) for key, value in one.items()}
    inputs = Pipeline(complete(), tokenizer).apply([one, one])
    assert np.array_equal(inputs.state[0], inputs.state[1])
    assert all(np.array_equal(one[key], kept[key]) for key in one)


@pytest.mark.parametrize("apart", [-1, 1])
def test_another_text_vocabulary_than_the_weights_is_refused(apart, tokenizer):
    tiny = Pi0Config.tiny()
    config = replace(tiny, language=replace(tiny.language, vocab=tokenizer.vocab_size + apart))
    said = replace(model_contract(config), state_norm=IDENTITY, action_norm=IDENTITY)
    contract = agree(said, so101(delta=False))
    with pytest.raises(ContractError, match=f"{tokenizer.vocab_size} ids.* {tokenizer.vocab_size + apart}"):
        Policy(Pi0(config, nnx.Rngs(0)), contract, tokenizer)


def test_a_fast_tokenizer_that_the_text_vocabulary_has_no_room_for_is_refused(tmp_path):
    small = TextTokenizer.load(write_text_model(tmp_path / "text.model"))
    rng = np.random.default_rng(0)
    codec = FastCodec.fit(rng.normal(size=(800, 6, 6)), vocab_size=small.vocab_size)
    with pytest.raises(InputError, match="vocabulary"):
        Pipeline(complete("pi0_fast"), small, codec)


def test_two_calls_of_one_session_do_not_overlap():
    session, refused = Session(), []

    def second() -> None:
        try:
            with session.answering():
                pass
        except InputError as error:
            refused.append(str(error))

    with session.answering():
        thread = threading.Thread(target=second)
        thread.start()
        thread.join()
    assert len(refused) == 1
    assert "a session of its own" in refused[0]
    with session.answering():
        pass


def parts(path, **said):
    """Opens a checkpoint as `Policy.load` does."""
    arguments = dict.fromkeys(
        (
            "robot",
            "said",
            "cameras",
            "tokenizer",
            "codec",
            "base",
            "asset_id",
            "norm_stats",
            "action_horizon",
            "dtype",
        )
    )
    return load_policy_parts(path, **arguments | said)


def test_statistics_that_nothing_would_use_are_refused(tmp_path):
    stats = {key: Stats([0.0] * 6, [1.0] * 6) for key in ("state", "actions")}
    path = write_lerobot(tmp_path, mode="IDENTITY")
    with pytest.raises(InputError, match="normalises neither states nor actions"):
        parts(path, norm_stats=stats)


def test_statistics_of_another_width_are_refused(tmp_path):
    with load(write_lerobot(tmp_path), heads=HEADS) as opened:
        said = replace(opened.contract, norm_stats={"state": Stats([0.0] * 8, [1.0] * 8, *[[0.5] * 8] * 2)})
    with pytest.raises(ContractError, match="cover 8 numbers, and the robot has 6"):
        Pipeline(said)


def test_a_preset_of_another_robot_on_a_lerobot_checkpoint_is_refused(tmp_path):
    """Signs and grippers of ALOHA are openpi's; LeRobot's numbers are the robot's own."""

    with load(write_lerobot(tmp_path), heads=HEADS) as opened:
        contract = opened.contract
    with pytest.raises(ContractError, match=r"robot\.state_dim"):
        agree(contract, aloha())
    # The same numbers, some turned round and with a gripper map: refused for that alone.
    turned = replace(so101(delta=False), signs=(1, -1, 1, 1, 1, 1), joint_names=(), state_names=())
    with pytest.raises(ContractError, match=r"robot\.signs"):
        agree(contract, turned)


def test_an_so101_on_an_absolute_lerobot_checkpoint_stays_absolute(tmp_path):
    with load(write_lerobot(tmp_path), heads=HEADS) as opened:
        contract = opened.contract
    cameras = {"observation.images.top": FRONT, "observation.images.side": WRIST}
    plain = replace(so101(), joint_names=(), state_names=(), delta_mask=None)
    keys = tuple(replace(c, slot=slot) for c, slot in zip(plain.cameras, cameras, strict=True))
    slots = tuple(CameraSlot(c.slot) for c in contract.cameras)
    agreed = agree(replace(contract, cameras=slots), replace(plain, cameras=keys), cameras=cameras)
    assert agreed.delta_mask == ()
    with pytest.raises(ContractError, match="delta_mask"):
        agree(contract, replace(plain, delta_mask=(True,) * 5))


def test_lerobots_old_name_of_flow_steps_is_not_passed_over(tmp_path):
    def old(files) -> None:
        files["config"]["num_steps"] = 5

    with (
        load(write_lerobot(tmp_path, change=old), heads=HEADS) as opened,
        pytest.raises(CheckpointError, match=r"num_steps is 5.*num_inference_steps"),
    ):
        _ = opened.contract


def test_choosing_how_chunks_continue_keeps_the_checkpoints_number_of_steps(tokenizer):
    tiny = Pi0Config.tiny()
    config = replace(tiny, language=replace(tiny.language, vocab=tokenizer.vocab_size))
    said = replace(model_contract(config), num_steps=4, state_norm=IDENTITY, action_norm=IDENTITY)
    contract, model = agree(said, so101(delta=False)), Pi0(config, nnx.Rngs(0))
    for sampler, steps in (
        (None, 4),
        (FlowSampler(realtime=RTCConfig()), 4),
        (FlowSampler(num_steps=10), 10),
    ):
        policy = Policy(model, contract, tokenizer, options=PolicyOptions(sampler))
        assert policy.engine.sampler.steps == steps
    assert FlowSampler().steps == 10
