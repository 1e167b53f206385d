"""Real-time chunking: what is fixed stays, what follows continues it, and no leftover changes nothing."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pioxide.errors import InputError
from pioxide.models import Pi0, Pi0Config
from pioxide.sampling import (
    PrevChunkLeftOver,
    RTCAttentionSchedule,
    RTCConfig,
    pad_prev_chunk_left_over,
    sample_actions,
    sample_guided_rtc,
    sample_trained_rtc,
    training_time_rtc_loss,
)
from pioxide.sampling.realtime import guidance_strength, guidance_weights
from support.models import observe, random_model

KINDS = ["pi0", "pi05"]
plain = nnx.jit(sample_actions, static_argnames=("num_steps", "scan_layers"))
guided = nnx.jit(sample_guided_rtc, static_argnames=("config", "num_steps", "scan_layers"))
continued = nnx.jit(sample_trained_rtc, static_argnames=("num_steps", "scan_layers"))
velocity_of = nnx.jit(lambda model, observation, x_t, time: model.velocity(observation, x_t, time))


def config(kind):
    return Pi0Config.tiny(pi05=kind == "pi05")


@pytest.fixture(scope="module", params=KINDS)
def model(request):
    return random_model(config(request.param))


def noise(config, seed, batch=4):
    return jax.random.normal(jax.random.key(seed), (batch, config.action_horizon, config.action_dim))


def left(actions, length, delay):
    batch, horizon = actions.shape[:2]
    rows = jnp.minimum(jnp.arange(horizon), max(length - 1, 0))
    full = lambda n: jnp.full(batch, n, jnp.int32)  # noqa: E731
    return PrevChunkLeftOver(actions[:, rows], full(length), full(delay))


def weights(length, delay, horizon=12, **how):
    zeros = jnp.zeros((1, horizon, 2))
    leftover = PrevChunkLeftOver(zeros, jnp.array([length]), jnp.array([delay]))
    return np.asarray(guidance_weights(leftover, RTCConfig(**how)))[0]


def test_weights_fall_from_the_delay_to_the_window():
    linear = [1, 1, 1, 1, 0.857, 0.714, 0.571, 0.429, 0.286, 0.143, 0, 0]
    exp = [1, 1, 1, 1, 0.677, 0.434, 0.256, 0.134, 0.055, 0.013, 0, 0]
    np.testing.assert_allclose(
        weights(10, 4, prefix_attention_schedule=RTCAttentionSchedule.LINEAR), linear, atol=5e-4
    )
    np.testing.assert_allclose(
        weights(12, 4, prefix_attention_schedule=RTCAttentionSchedule.LINEAR, execution_horizon=10),
        linear,
        atol=5e-4,
    )
    np.testing.assert_allclose(weights(10, 4), exp, atol=1e-3)
    np.testing.assert_array_equal(
        weights(10, 4, prefix_attention_schedule=RTCAttentionSchedule.ONES), [1] * 10 + [0] * 2
    )
    np.testing.assert_array_equal(
        weights(10, 4, prefix_attention_schedule=RTCAttentionSchedule.ZEROS), [1] * 4 + [0] * 8
    )


@pytest.mark.parametrize("schedule", list(RTCAttentionSchedule))
def test_weights_are_zero_past_the_tail_whatever_the_window(schedule):
    assert not weights(0, 0, prefix_attention_schedule=schedule).any()
    assert not weights(3, 9, prefix_attention_schedule=schedule, execution_horizon=50)[3:].any()
    np.testing.assert_array_equal(weights(3, 9, prefix_attention_schedule=schedule)[:3], 1)
    assert weights(12, 12, prefix_attention_schedule=schedule).all()


def test_strength_is_capped_at_noise_and_follows_the_paper_after():
    tau = np.array([0.1, 0.3, 0.5, 0.9])
    spread = (1 - tau) ** 2 / (tau**2 + (1 - tau) ** 2)
    got = [float(guidance_strength(jnp.float32(1 - t), 5.0)) for t in tau]
    np.testing.assert_allclose(got, np.minimum(5.0, (1 - tau) / (tau * spread)), rtol=1e-5)
    assert float(guidance_strength(jnp.float32(1.0), 5.0)) == 5.0


def test_correction_is_the_vector_jacobian_product(model):
    """One step at time 1 moves by the largest weight times it; finite differences know nothing of vjp."""
    c = model.config
    observation, x, target = observe(c), noise(c, 2), noise(c, 3)
    leftover = left(target, 5, 2)
    how = RTCConfig(max_guidance_weight=2.0)
    moved = guided(model, observation, x, leftover, config=how, num_steps=1)
    moved -= plain(model, observation, x, num_steps=1)
    clean = lambda x: np.asarray(x - velocity_of(model, observation, x, jnp.ones(4)), np.float64)  # noqa: E731
    error = (np.asarray(target) - clean(x)) * np.asarray(guidance_weights(leftover, how))[..., None]
    for seed in range(3):
        direction = jax.random.normal(jax.random.key(seed), x.shape) * 1e-2
        turned = (clean(x + direction) - clean(x - direction)) / 2
        along = (error * turned).sum((1, 2))
        np.testing.assert_allclose((moved / 2.0 * direction).sum((1, 2)), along, rtol=0.03, atol=2e-3)
        # The identity in the Jacobian's place would be another correction.
        assert np.abs((error * np.asarray(direction)).sum((1, 2)) - along).max() > 0.03


def test_continuing_takes_a_step(model):
    c = model.config
    for sample in (sample_guided_rtc, sample_trained_rtc):
        with pytest.raises(ValueError, match="num_steps: expected at least 1"):
            sample(model, observe(c), noise(c, 2), left(noise(c, 3), 3, 1), num_steps=-1)


@pytest.mark.parametrize("scan_layers", [True, False])
def test_no_leftover_changes_nothing(model, scan_layers):
    c = model.config
    observation, x = observe(c), noise(c, 2)
    expected = plain(model, observation, x, num_steps=5, scan_layers=scan_layers)
    for sample in (guided, continued):
        got = sample(model, observation, x, left(noise(c, 3), 0, 0), num_steps=5, scan_layers=scan_layers)
        np.testing.assert_allclose(got, expected, atol=2e-5)


def test_guided_chunk_keeps_what_is_fixed_and_continues_it(model):
    """Against the chunk that the same noise gives without guidance, for random weights."""
    c = model.config
    observation, x = observe(c), noise(c, 2)
    # A motion even as a robot's: a ramp in every joint, six rows left, two of them played meanwhile.
    ramp = noise(c, 1)[:, :1] + 0.05 * jnp.arange(c.action_horizon, dtype=jnp.float32)[None, :, None]
    leftover = left(ramp, c.action_horizon, 2)
    free = np.asarray(plain(model, observation, x, num_steps=5))
    held = np.asarray(guided(model, observation, x, leftover, num_steps=5))
    away = lambda chunk: np.abs(chunk - ramp).mean((0, 2))  # noqa: E731
    assert (away(held)[:2] < 0.15 * away(free)[:2]).all()
    seam = lambda chunk: np.abs(chunk[:, 2] - ramp[:, 1]).mean()  # noqa: E731
    assert seam(held) < 0.3 * seam(free)
    assert away(held)[5] > 2 * away(held)[3] > 2 * away(held)[1]  # held less and less


def test_rows_past_the_tail_do_not_matter(model):
    c = model.config
    observation, x = observe(c), noise(c, 2)
    leftover = left(noise(c, 3), 3, 1)
    other = leftover._replace(actions=leftover.actions.at[:, 3:].set(9.0))
    got, expected = (guided(model, observation, x, one, num_steps=5) for one in (leftover, other))
    np.testing.assert_array_equal(got, expected)


def test_trained_chunk_keeps_what_is_fixed_exactly(model):
    c = model.config
    observation, x, target = observe(c), noise(c, 2), noise(c, 3)
    delay = jnp.array([0, 1, 3, 6])
    leftover = PrevChunkLeftOver(target, jnp.full(4, 6), delay)
    got = continued(model, observation, x, leftover, num_steps=5)
    fixed = np.arange(6)[None] < np.asarray(delay)[:, None]
    np.testing.assert_array_equal(np.asarray(got)[fixed], np.asarray(target)[fixed])
    # Written out: whole passes with each action's own time.
    by_hand = jnp.where(fixed[..., None], target, x)
    for step in range(5):
        time = jnp.where(fixed, 0.0, 1 - step / 5)
        moved = by_hand - velocity_of(model, observation, by_hand, time) / 5
        by_hand = jnp.where(fixed[..., None], target, moved)
    np.testing.assert_allclose(got, by_hand, atol=5e-5)


def test_delayed_loss_is_the_plain_one_of_what_is_not_fixed(model):
    c = model.config
    observation, actions, drawn = observe(c), noise(c, 3), noise(c, 4)
    time = jnp.array([0.1, 0.4, 0.7, 1.0])
    loss = nnx.jit(training_time_rtc_loss, static_argnames="max_delay")
    how = {"key": jax.random.key(0), "max_delay": 5, "noise": drawn, "time": time}
    free = loss(model, observation, actions, delay=jnp.zeros(4, jnp.int32), **how)
    expected = nnx.jit(Pi0.loss)(model, observation, actions, noise=drawn, time=time).mean()
    np.testing.assert_allclose(free, expected, rtol=1e-5)
    delay = jnp.array([0, 2, 5, 1])
    fixed = (np.arange(6)[None] < np.asarray(delay)[:, None])[..., None]
    t = np.where(fixed, 0.0, np.asarray(time)[:, None, None])
    velocity = velocity_of(model, observation, t * drawn + (1 - t) * actions, jnp.asarray(t[..., 0]))
    each = np.square(np.asarray(velocity - (drawn - actions)))[~fixed[..., 0]]
    np.testing.assert_allclose(loss(model, observation, actions, delay=delay, **how), each.mean(), rtol=1e-5)
    # What is drawn for the fixed actions does not matter.
    how["noise"] = jnp.where(fixed, 7.0, drawn)
    np.testing.assert_allclose(loss(model, observation, actions, delay=delay, **how), each.mean(), rtol=1e-5)
    with pytest.raises(ValueError, match="max_delay"):
        training_time_rtc_loss(model, observation, actions, key=jax.random.key(0), max_delay=6)


def test_leftover_is_padded_by_its_last_action():
    leftover = pad_prev_chunk_left_over([[1, 2], [3, 4]], 5, horizon=4, dim=3)
    np.testing.assert_array_equal(leftover.actions, [[[1, 2, 0], [3, 4, 0], [3, 4, 0], [3, 4, 0]]])
    assert leftover.length.tolist() == [2]
    assert leftover.inference_delay.tolist() == [2]
    assert pad_prev_chunk_left_over(None, 3, horizon=4, dim=3).length.tolist() == [0]
    assert pad_prev_chunk_left_over(np.ones((9, 3)), 1, horizon=4, dim=3).length.tolist() == [4]


@pytest.mark.parametrize(
    ("leftover", "delay", "message"),
    [
        (np.zeros(3), 0, "expected"),
        (np.zeros((2, 4)), 0, "expected"),
        ([[0.0, np.nan]], 0, "step 0, dimension 1"),
        (None, -1, "delay"),
    ],
)
def test_wrong_leftovers_are_named(leftover, delay, message):
    with pytest.raises(InputError, match=message):
        pad_prev_chunk_left_over(leftover, delay, horizon=4, dim=3)


def test_wrong_guidance_is_named():
    with pytest.raises(InputError, match="max_guidance_weight"):
        RTCConfig(max_guidance_weight=0.0)
    with pytest.raises(InputError, match="execution_horizon"):
        RTCConfig(execution_horizon=0)
