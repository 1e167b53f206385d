"""A run learns what its batches say, counts what is real, and leaves a policy that loads."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pioxide.codec import load_codec
from pioxide.contract import action_vocabulary, load_contract, model_card
from pioxide.errors import ContractError, InputError
from pioxide.models import Pi0, Pi0Config, make_mesh
from pioxide.policy import FlowSampler, Policy, PolicyOptions, Session, SubtaskOptions
from pioxide.train import ActionLoss, CosineSchedule, Ema, Targets, train
from pioxide.train.losses import flow_parts
from pioxide.train.place import place_batch
from pioxide.train.run import mean_of, settings_of
from pioxide.train.step import make_schedule, make_step, start
from pioxide.transforms import load_norm_stats
from pioxide.weights import convert, load
from support.training import (
    DIM,
    HORIZON,
    SLOT,
    SUBTASKS,
    TINY,
    WORDS,
    Watch,
    config,
    leaves,
    network,
    source,
    updated,
)

# π0.5 with all that there is beside its flow.
INSULATED = {"loss": ActionLoss(targets=Targets.INSULATED, flow_num_repeats=2)}


@pytest.mark.parametrize("family", ["pi0", "pi05", "pi0_fast"])
def test_a_run_is_a_policy_with_its_contract(tmp_path, family):
    insulated = family == "pi05"
    data, watch = source(family, answer_len=24 if insulated else 0), Watch()
    run = config(**INSULATED if insulated else {})
    made = train(run, data, tmp_path / "run", reporters=(watch,))
    assert (made.steps, [r.step for r in watch.reports]) == (6, [2, 4, 6])
    assert load_contract(tmp_path / "run").family == family
    policy = Policy.load(made.checkpoint)
    assert policy.contract.norm_stats["state"].dim == DIM
    assert (made.checkpoint / "README.md").read_text() == model_card(policy.contract, settings_of(run))
    batch = data.batch(0)
    seen = {"image": batch.images[SLOT][0], "state": np.zeros(DIM), "prompt": "go left"}
    assert policy(seen).actions.shape == (HORIZON, DIM)
    report = watch.reports[-1]
    assert policy.contract.fast == (action_vocabulary(data.codec) if data.codec else None)
    if insulated:
        np.testing.assert_allclose(report.loss, report.flow + report.entropy, rtol=1e-5)
        assert load_codec(made.checkpoint / "assets" / "fast_tokenizer").fingerprint == data.codec.fingerprint
    if family == "pi0_fast":
        assert policy.contract.answer_gap == 0
    if family != "pi0":
        assert 0 <= report.accuracy <= 1
    if family != "pi0_fast":
        assert np.isnan(watch.reports[-1].by_dimension[DIM:]).all()


def test_padded_steps_and_dimensions_do_not_count():
    data = source(end=2)
    model = Pi0(replace(Pi0Config.tiny(), action_dim=4, action_horizon=HORIZON), nnx.Rngs(0))
    batch = data.batch(0)

    def parts(batch):
        tokens = np.minimum(batch.tokens, 500)
        placed = place_batch(replace(batch, tokens=tokens), make_mesh())
        return flow_parts(model, placed, jax.random.key(1))

    real, mask = parts(batch), batch.action_mask
    assert float(real.loss.counted) == mask.sum() == 4 * HORIZON * DIM + 4 * 2 * DIM
    np.testing.assert_array_equal(real.by_dimension.counted, mask.sum(axis=(0, 1)))
    np.testing.assert_allclose(real.by_time.total.sum(), real.loss.total, rtol=1e-5)
    full = model.flow_error
    noise = jax.random.normal(jax.random.split(jax.random.key(1), 3)[0], batch.actions.shape)
    time = model.draw_time(jax.random.split(jax.random.key(1), 3)[1], 8)
    placed = place_batch(replace(batch, tokens=np.minimum(batch.tokens, 500)), make_mesh())
    error = np.asarray(full(placed.observation, placed.actions, noise, time))
    np.testing.assert_allclose(mean_of(real.loss), error[mask].mean(), rtol=1e-5)


def test_clean_first_actions_of_a_trained_delay_do_not_count():
    data = source()
    model = Pi0(replace(Pi0Config.tiny(), action_dim=4, action_horizon=HORIZON), nnx.Rngs(0))
    placed = place_batch(replace(data.batch(0), tokens=np.minimum(data.batch(0).tokens, 500)), make_mesh())
    keys = jax.random.split(jax.random.key(1), 3)
    delay = np.asarray(jax.random.randint(keys[2], (8,), 0, 3))
    parts = flow_parts(model, placed, jax.random.key(1), max_delay=2)
    assert {*delay} == {0, 1, 2}
    assert float(parts.loss.counted) == (HORIZON - delay).sum() * DIM


@pytest.mark.parametrize("family", ["pi0", "pi0_fast"])
def test_accumulated_parts_are_the_whole_batch(family, monkeypatch):
    # The same draws for a row, whichever part it is in: none.
    monkeypatch.setattr(jax.random, "normal", lambda key, shape, dtype=float: jnp.full(shape, 0.5))
    monkeypatch.setattr(Pi0, "draw_time", staticmethod(lambda key, batch: jnp.full((batch,), 0.5)))
    data = source(family, end=1)
    settings = config(ema=Ema(decay=0))
    one, whole = updated(settings, data)
    two, parts = updated(replace(settings, accumulate=4), data)
    np.testing.assert_allclose(float(whole.grad_norm), float(parts.grad_norm), rtol=1e-5)
    np.testing.assert_allclose(mean_of(whole.parts.loss), mean_of(parts.parts.loss), rtol=1e-6)
    assert int(one.step) == int(two.step) == 1
    assert float(whole.learning_rate) == float(parts.learning_rate)


def test_the_learning_rate_counts_updates():
    schedule = make_schedule(CosineSchedule(peak=1e-3, end=1e-4, warmup=10), 100)
    np.testing.assert_allclose(
        [float(schedule(i)) for i in (0, 10, 55, 100, 1000)],
        [1e-3 / 11, 1e-3, (1e-3 + 1e-4) / 2, 1e-4, 1e-4],
        rtol=1e-5,
    )


def test_the_average_is_a_copy_that_lags_behind():
    settings = config(ema=Ema(decay=0.9), schedule=CosineSchedule(peak=1e-2, end=1e-2, warmup=0))
    data = source()
    mesh, graph, trained, frozen = network(settings, data)
    before = leaves(trained)
    state = start(settings, trained, frozen)
    step = make_step(settings, graph, state)
    state, _ = step(state, place_batch(data.batch(0), mesh))
    for was, now, mean in zip(before, leaves(state.trained), leaves(state.ema), strict=True):
        np.testing.assert_allclose(mean, 0.9 * was + 0.1 * now, rtol=1e-4, atol=1e-7)


def test_what_is_saved_is_the_average_and_openpi_s_names(tmp_path):
    settings = config(steps=3, ema=Ema(decay=0.5))
    made = train(settings, source(), tmp_path / "run")
    state, _ = updated(settings, source(), 3)
    with load(made.checkpoint) as checkpoint:
        spec = checkpoint.tree.specs["action_out_proj/kernel"]
        kernel = np.empty(spec.shape, np.float32)
        checkpoint.tree.fill("action_out_proj/kernel", kernel)
        assert not checkpoint.problems()
        written = convert(checkpoint, tmp_path / "openpi", "openpi", asset_id="toy")
        stats = load_norm_stats(tmp_path / "openpi" / "assets" / "toy")
        for key, kept in checkpoint.contract.norm_stats.items():
            np.testing.assert_array_equal(stats[key].q99, kept.q99)
    assert any("vocabulary of its own" in what for what in written.left_out)
    np.testing.assert_array_equal(kernel, state.ema["action_out"]["kernel"])
    assert np.abs(kernel - np.asarray(state.trained["action_out"]["kernel"])).max() > 0


def test_frozen_parameters_stay_and_are_kept_small(tmp_path):
    settings = config(freeze=("vision/", "language/embedding"), model=replace(TINY, frozen_dtype="bfloat16"))
    data = source()
    _, _, trained, frozen = network(settings, data)
    assert {leaf.dtype for leaf in jax.tree.leaves(trained)} == {jnp.dtype("float32")}
    assert {leaf.dtype for leaf in jax.tree.leaves(frozen)} == {jnp.dtype("bfloat16")}
    before = leaves(frozen)
    state, _ = updated(settings, data, 2)
    for a, b in zip(before, leaves(state.frozen), strict=True):
        np.testing.assert_array_equal(a, b)
    with pytest.raises(InputError, match="begins no parameter"):
        train(config(freeze=("visoin",)), data, tmp_path / "run")


def test_batches_that_teach_nothing_are_refused():
    batch = source().batch(0)
    for wrong in (
        replace(batch, action_mask=np.zeros_like(batch.action_mask)),
        replace(batch, action_mask=None),
        replace(batch, actions=np.full_like(batch.actions, np.inf)),
        replace(batch, state=np.full_like(batch.state, np.nan)),
    ):
        with pytest.raises(InputError):
            place_batch(wrong, make_mesh())


@pytest.mark.parametrize(
    "changes",
    [
        {"batch_size": 7, "accumulate": 2},
        {"steps": 0},
        {"ema": Ema(decay=1.0)},
        {"steps": 100, "schedule": CosineSchedule(warmup=100)},
        {"freeze": ("(",)},
    ],
)
def test_settings_that_can_not_be_are_refused(changes):
    with pytest.raises(InputError):
        config(**changes)


def test_a_run_on_subtasks_is_a_policy_that_says_the_right_one(tmp_path):
    data, watch = source("pi05", subtasks=True), Watch()
    settings = config(
        steps=80,
        schedule=CosineSchedule(peak=5e-3, end=1e-3, warmup=5),
        ema=Ema(decay=0.0),
        loss=ActionLoss(subtasks=True),
    )
    made = train(settings, data, tmp_path / "run", reporters=(watch,))
    assert watch.reports[0].accuracy < 0.9 < watch.reports[-1].accuracy
    for report in watch.reports:  # half of the rows ask, and each row counts once
        np.testing.assert_allclose(report.loss, (report.flow + report.entropy) / 2, rtol=1e-4)
    options = PolicyOptions(FlowSampler(num_steps=2), subtask=SubtaskOptions(max_tokens=12))
    policy = Policy.load(made.checkpoint, options=options)
    for words, subtask in zip(WORDS, SUBTASKS, strict=True):
        batch = data.batch(500)
        seen = {"image": batch.images[SLOT][0], "state": np.full(DIM, 0.1), "prompt": words}
        assert policy(seen, session=Session()).subtask.text == subtask


def test_subtasks_without_a_contract_that_says_so_are_refused(tmp_path):
    for settings, subtasks in ((ActionLoss(subtasks=True), False), (ActionLoss(), True)):
        with pytest.raises(ContractError, match="subtask_style"):
            train(config(loss=settings), source("pi05", subtasks=subtasks), tmp_path / "run")
