"""Whatever makes a policy fast changes nothing: each measure beside the plain computation."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pioxide.codec import TextTokenizer
from pioxide.engine.prepare import prepare
from pioxide.errors import InputError, PolicyError
from pioxide.models import Observation, Pi0Config, Pi0FastConfig
from pioxide.models.lora import LoraConfig, add_lora
from pioxide.policy import keep_programs
from pioxide.robots import aloha
from pioxide.sampling import sample_actions, sample_tokens, step_times
from support.models import policy_options, random_model
from support.policies import make_policy
from support.text_model import write_text_model

SIZE = 28
CLOSE = {"rtol": 1e-4, "atol": 1e-5}


def config(pi05):
    return replace(Pi0Config.tiny(pi05=pi05), text_len=40)


@pytest.fixture(scope="module", params=[False, True], ids=["pi0", "pi05"])
def model(request):
    return random_model(config(request.param))


def observe(cameras, text, real=11, masked=()):
    rng = np.random.default_rng(0)
    images = {name: rng.integers(0, 256, (1, SIZE, SIZE, 3), dtype=np.uint8) for name in Pi0Config().cameras}
    tokens = np.zeros((1, text), np.int32)
    tokens[0, :real] = rng.integers(3, 500, real)
    return jax.tree.map(
        jnp.asarray,
        Observation(
            {name: images[name] for name in cameras},
            {name: np.array([name not in masked]) for name in cameras},
            tokens,
            np.arange(text)[None] < real,
            rng.standard_normal((1, 7), np.float32),
        ),
    )


def sampled(model, observation, *, scan_layers, conditions=None):
    graph, state = nnx.split(model)
    noise = jnp.asarray(np.random.default_rng(1).standard_normal((1, 6, 7), np.float32))
    run = jax.jit(
        lambda s, o, m: sample_actions(
            nnx.merge(graph, s), o, noise, scan_layers=scan_layers, conditions=m, num_steps=4
        )
    )
    return np.asarray(run(state, observation, conditions))


@pytest.fixture(scope="module")
def plain(model):
    """All cameras with one masked, text padded to its full length, a scan over layers."""
    cameras = model.config.cameras
    answer = sampled(model, observe(cameras, 40, masked=cameras[1:2]), scan_layers=True)
    assert np.abs(answer).max() > 0.1
    return answer


def test_an_absent_camera_is_a_masked_one(model, plain):
    cameras = (model.config.cameras[0], model.config.cameras[2])
    np.testing.assert_allclose(sampled(model, observe(cameras, 40), scan_layers=True), plain, **CLOSE)


def test_text_in_a_bucket_is_padded_text(model, plain):
    cameras = model.config.cameras
    short = observe(cameras, 16, masked=cameras[1:2])
    np.testing.assert_allclose(sampled(model, short, scan_layers=True), plain, **CLOSE)


def test_unrolled_layers_are_scanned_ones(model, plain):
    cameras = model.config.cameras
    whole = observe(cameras, 40, masked=cameras[1:2])
    np.testing.assert_allclose(sampled(model, whole, scan_layers=False), plain, **CLOSE)


def test_prepared_weights_and_conditions_are_the_models_own(model, plain):
    cameras = model.config.cameras
    prepared = prepare(model, step_times(4))
    assert prepared.conditions is not None
    whole = observe(cameras, 40, masked=cameras[1:2])
    ours = sampled(prepared.model, whole, scan_layers=False, conditions=prepared.conditions)
    np.testing.assert_allclose(ours, plain, **CLOSE)


def test_all_of_it_together(model, plain):
    cameras = (model.config.cameras[0], model.config.cameras[2])
    prepared = prepare(model, step_times(4))
    ours = sampled(prepared.model, observe(cameras, 16), scan_layers=False, conditions=prepared.conditions)
    np.testing.assert_allclose(ours, plain, **CLOSE)


def test_preparing_leaves_the_model_as_it_was():
    model = random_model(config(True))
    before = jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), nnx.state(model))
    prepare(model)
    assert jax.tree.map(lambda leaf: (leaf.shape, leaf.dtype), nnx.state(model)) == before


def test_a_consumed_model_gives_the_same_answers_and_its_layers_are_freed(model, plain):
    graph, state = nnx.split(model)
    mine = nnx.merge(graph, jax.tree.map(jnp.copy, state))
    prepared = prepare(mine, step_times(4), consume=True)
    layers = jax.tree.leaves(nnx.state((mine.language.blocks, mine.vision.blocks)))
    assert all(leaf.is_deleted() for leaf in layers)
    whole = observe(model.config.cameras, 40, masked=model.config.cameras[1:2])
    ours = sampled(prepared.model, whole, scan_layers=False, conditions=prepared.conditions)
    np.testing.assert_allclose(ours, plain, **CLOSE)


def test_a_model_that_was_consumed_is_refused_and_so_is_one_that_shares_its_arrays():
    graph, state = nnx.split(random_model(config(True)))
    model, other = nnx.merge(graph, state), nnx.merge(graph, state)
    prepare(model, consume=True)
    for used in (model, other):
        with pytest.raises(InputError, match="load it again"):
            prepare(used, step_times(4))


def test_prepared_bfloat16_rounds_as_the_model_does():
    """Matrices kept in float32 are rounded where they are used: doing it once gives the same numbers."""
    model = random_model(replace(config(True), dtype=jnp.bfloat16))
    prepared = prepare(model, step_times(4))
    assert prepared.model.language.blocks.each[0].experts[0].down[...].dtype == jnp.bfloat16
    cameras = model.config.cameras
    theirs = sampled(model, observe(cameras, 40), scan_layers=False)
    ours = sampled(prepared.model, observe(cameras, 40), scan_layers=False, conditions=prepared.conditions)
    # Products of another shape add in another order, which bfloat16 shows at its own resolution.
    assert np.abs(ours - theirs).max() <= 0.03 * np.abs(theirs).max()


def test_low_rank_updates_become_part_of_the_weights():
    model = random_model(config(False))
    add_lora(model.language, [LoraConfig(2, 2.0), LoraConfig(2, 2.0)], nnx.Rngs(0))
    observation = observe(model.config.cameras[:1], 16)
    theirs = sampled(model, observation, scan_layers=False)
    np.testing.assert_allclose(sampled(prepare(model).model, observation, scan_layers=False), theirs, **CLOSE)


def test_prepared_pi0_fast_writes_the_same_tokens():
    model = random_model(replace(Pi0FastConfig.tiny(), cameras=Pi0Config().cameras))
    observation = observe(model.config.cameras, 24)._replace(state=None)

    def write(model, scan_layers):
        graph, state = nnx.split(model)
        return np.asarray(
            jax.jit(
                lambda s, o: sample_tokens(nnx.merge(graph, s), o, max_tokens=12, scan_layers=scan_layers)
            )(state, observation)
        )

    np.testing.assert_array_equal(write(prepare(model).model, False), write(model, True))


CAMERAS = Pi0Config().cameras
PROMPTS = ("go", "pick up the cup", "take the bottle from the table and hand it over to the left")


@pytest.fixture
def policy(tmp_path):
    tokenizer = TextTokenizer.load(write_text_model(tmp_path / "text.model"))
    sizes = replace(config(True), text_len=200, action_dim=16)
    model = random_model(replace(sizes, language=replace(sizes.language, vocab=tokenizer.vocab_size)))
    return make_policy(model, aloha(sim=True), None, tokenizer, options=policy_options("pi05", num_steps=2))


def varied(number):
    """Prompts, cameras, image sizes and states that all differ from call to call."""
    rng = np.random.default_rng(number)
    images = {"cam_high": (48 + number % 5, 64), "cam_left_wrist": (SIZE, SIZE), "cam_right_wrist": (30, 28)}
    wanted = (("cam_high",), ("cam_high", "cam_left_wrist"), tuple(images))[number % 3]
    return {
        "images": {name: rng.integers(0, 256, (*images[name], 3), dtype=np.uint8) for name in wanted},
        "state": rng.uniform(-1.5, 1.5, 14) * rng.integers(0, 2, 14),
        "prompt": PROMPTS[number // 3 % len(PROMPTS)],
    }


def test_nothing_is_compiled_in_the_loop(policy):
    seconds = policy.warm_up(PROMPTS, cameras=[CAMERAS[:1], CAMERAS[:2], CAMERAS])
    assert {shape.cameras for shape in seconds} == {CAMERAS[:1], CAMERAS[:2], CAMERAS}
    compiled: list[str] = []

    def listen(event, duration, **_):
        if "compile" in event or "trac" in event:
            compiled.append(event)

    policy(varied(0))
    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        # An eager operation on a NumPy array would be an implicit upload, and is refused here.
        with jax.transfer_guard("disallow"):
            for number in range(200):
                policy(varied(number))
        assert compiled == []
        jax.jit(lambda x: x + 41.5)(jnp.float32(1.0))
        assert compiled, "the counter counts"
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)
    assert set(policy.engine.shapes) == set(seconds)
    assert policy.session.calls == 201


def test_a_shape_that_was_not_compiled_falls_back_to_a_longer_one_that_was(policy):
    policy.warm_up([PROMPTS[2]], cameras=[CAMERAS[:1]])
    before = policy.engine.shapes
    assert min(shape.text for shape in before) > 64
    policy(varied(0))
    assert policy.engine.shapes == before
    with pytest.raises(PolicyError, match="Warm up that shape"):
        policy(varied(1))
    assert policy.engine.shapes == before


def test_a_camera_that_the_robot_lacks_can_not_be_warmed_up(policy):
    with pytest.raises(InputError, match="no camera 'top'"):
        policy.warm_up(cameras=[("top",)])


def test_a_text_is_not_warmed_up_letter_by_letter(policy):
    for wrong in ({"prompts": "go"}, {"cameras": CAMERAS[0]}, {"cameras": CAMERAS}):
        with pytest.raises(InputError, match="put it into a list"):
            policy.warm_up(**wrong)
    assert policy.engine.shapes == ()


def test_a_camera_set_that_is_there_twice_keeps_its_seconds(policy):
    seconds = policy.warm_up(["go"], cameras=[CAMERAS[:1], CAMERAS[:1]])
    assert min(seconds.values()) > 0


def test_programs_are_kept_between_processes(policy, tmp_path):
    before = jax.config.values["jax_compilation_cache_dir"]
    from jax.experimental.compilation_cache import compilation_cache

    try:
        keep_programs(tmp_path / "programs")
        compilation_cache.reset_cache()
        policy.warm_up(PROMPTS[:1], cameras=[CAMERAS[:1]])
        assert list((tmp_path / "programs").glob("jit_answer*"))
    finally:
        jax.config.update("jax_compilation_cache_dir", before)
        compilation_cache.reset_cache()
