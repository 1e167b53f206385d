"""Knowledge insulation: both halves learn in one pass, and neither reaches what is the other's."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pioxide.contract import action_vocabulary
from pioxide.errors import ContractError, InputError
from pioxide.models import Answer, JointErrors, Pi0, Pi0Config, joint_errors, make_mesh
from pioxide.models.scores import TokenLosses
from pioxide.train import ActionLoss, Targets, losses, train
from pioxide.train.place import place_batch
from support.loading import make_pictured
from support.models import observe, random_model
from support.training import config, source

ROWS, LENGTH = 4, 5
INSULATED = ActionLoss(targets=Targets.INSULATED, answer_len=24)


def answer(seed: int) -> Answer:
    tokens = np.random.default_rng(seed).integers(3, 500, (ROWS, LENGTH))
    return Answer(jnp.asarray(tokens, jnp.int32), jnp.arange(LENGTH) < jnp.array([[5], [3], [4], [1]]))


def draws(config: Pi0Config, repeats: int):
    """Actions, noise and times: π0's one a row, π0.5's one an action, as trained chunking has them."""
    rng = np.random.default_rng(1)
    shape = (ROWS, config.action_horizon, config.action_dim)
    times = (repeats, *shape[: 2 if config.pi05 else 1])
    made = (rng.normal(size=shape), rng.normal(size=(repeats, *shape)), rng.uniform(size=times))
    return [jnp.asarray(one, jnp.float32) for one in made]


def padded(config: Pi0Config):
    """Prompts of several lengths."""
    seen = observe(config, ROWS)
    return seen._replace(token_mask=jnp.arange(config.text_len) < jnp.array([[12], [7], [5], [9]]))


def seen_length(seen, row: int) -> int:
    return int(seen.token_mask[row].sum())


def learnt(gradient) -> dict[str, bool]:
    """By path, whether a parameter's gradient has a number that is not zero."""
    flat = nnx.to_flat_state(gradient)
    return {"/".join(map(str, path)): bool(np.any(np.asarray(leaf[...]))) for path, leaf in flat}


def of_the_expert(path: str) -> bool:
    return not path.startswith("vision/") and (not path.startswith("language/") or "/1/" in path)


@pytest.fixture(scope="module")
def joint():
    """The model, its moments, and what one pass over them costs by draws and answer."""
    made = {}
    for pi05 in (False, True):
        config = Pi0Config.tiny(pi05=pi05)
        model, seen = random_model(config), padded(config)
        actions, noise, time = draws(config, 3)

        @nnx.jit
        def errors(model, answer, seen=seen, actions=actions, noise=noise, time=time):
            return joint_errors(model, seen, actions, noise, time, answer)

        made[pi05] = model, seen, errors
    return made


@pytest.fixture(scope="module")
def gradients():
    """Whether each parameter learns from the flow, and whether from the tokens."""
    config = Pi0Config.tiny(pi05=True)
    actions, noise, time = draws(config, 2)
    graph, state = nnx.split(random_model(config))

    @jax.jit
    def both(state):
        def errors(state):
            made = joint_errors(nnx.merge(graph, state), padded(config), actions, noise, time, answer(0))
            return made.flow.mean(), made.tokens.entropy.sum()

        _, pull = jax.vjp(errors, state)
        return pull((jnp.ones(()), jnp.zeros(())))[0], pull((jnp.zeros(()), jnp.ones(())))[0]

    return [learnt(one) for one in both(state)]


def test_the_flow_teaches_the_action_expert_and_nothing_else(gradients):
    assert {path for path, there in gradients[0].items() if there} == {
        path for path in gradients[0] if of_the_expert(path)
    }


def test_the_tokens_teach_the_language_model_and_nothing_else(gradients):
    assert {path for path, there in gradients[1].items() if there} == {
        path for path in gradients[1] if not of_the_expert(path)
    }


def test_without_insulation_the_flow_reaches_the_images():
    config = Pi0Config.tiny(pi05=True)
    actions, noise, time = draws(config, 1)
    graph, state = nnx.split(random_model(config))
    turned = jax.tree_util.tree_map_with_path(
        lambda path, leaf: jnp.ones_like(leaf) * ("vision" in jax.tree_util.keystr(path)), state
    )

    @jax.jit
    def moved(state, turned):
        def flow(state):
            model = nnx.merge(graph, state)
            return joint_errors(model, padded(config), actions, noise, time, insulate=False).flow

        return jax.jvp(flow, (state,), (turned,))[1]

    assert np.any(np.asarray(moved(state, turned)))


@pytest.mark.parametrize("pi05", [False, True])
def test_the_flow_is_that_of_a_plain_model_whatever_the_answer_says(joint, pi05):
    model, seen, errors = joint[pi05]
    actions, noise, time = draws(model.config, 3)
    one, two = errors(model, answer(0)), errors(model, answer(1))
    np.testing.assert_array_equal(one.flow, two.flow)
    assert np.abs(np.asarray(one.tokens.entropy - two.tokens.entropy)).max() > 0.1
    plain = nnx.jit(lambda model, noise, time: model.flow_error(seen, actions, noise, time))
    for each, drawn, at in zip(one.flow, noise, time, strict=True):
        np.testing.assert_allclose(each, plain(model, drawn, at), rtol=1e-4, atol=1e-4)


def test_an_answer_costs_what_its_tokens_cost_one_after_another(joint):
    """The language model alone, on a prompt that ends in the answer, without padding between them."""
    model, seen, errors = joint[True]
    said, row, prompt = answer(0), 1, seen_length(seen, 1)
    tokens = errors(model, said).tokens
    ids = np.concatenate([seen.tokens[row, :prompt], said.tokens[row, :3]])
    alone = seen._replace(
        images={name: image[row : row + 1] for name, image in seen.images.items()},
        tokens=jnp.asarray(ids)[None],
        token_mask=jnp.ones((1, len(ids)), bool),
        ar_mask=jnp.asarray(np.arange(len(ids)) >= prompt, jnp.int32)[None],
    )

    @nnx.jit
    def scores(model):
        prefix = model.embed_prefix(alone)
        block = jnp.cumsum(prefix.ar_mask, axis=1)
        mask = block[:, None] <= block[:, :, None]
        at = jnp.arange(prefix.valid.shape[1])[None]
        (out, _), _ = model.language((prefix.tokens, None), at, mask)
        return jax.nn.log_softmax(model.language.logits(out[0, -4:-1]))

    wanted = -np.asarray(scores(model))[np.arange(3), ids[prompt:]]
    np.testing.assert_allclose(tokens.entropy[row, :3], wanted, rtol=1e-4)
    assert tokens.counted.sum(axis=1).tolist() == [5, 3, 4, 1]
    assert not np.any(np.asarray(tokens.entropy[row, 3:]))


def test_the_loss_is_the_mean_over_rows_of_all_draws_and_of_the_tokens(monkeypatch):
    rng, toy = np.random.default_rng(0), source("pi05", answer_len=24, end=2)
    placed = place_batch(toy.batch(0), make_mesh())
    flow = rng.uniform(size=(3, *placed.actions.shape)).astype(np.float32)
    entropy = np.where(placed.answer.mask, rng.uniform(size=(8, 24)), 0).astype(np.float32)
    tokens = TokenLosses(jnp.asarray(entropy), placed.answer.mask, placed.answer.mask)
    monkeypatch.setattr(losses, "joint_errors", lambda *_, **__: JointErrors(jnp.asarray(flow), tokens))
    settings = replace(INSULATED, flow_num_repeats=3, flow_weight=2.0, token_weight=0.5)
    parts = losses.flow_parts(Pi0, placed, jax.random.key(1), settings=settings)  # type: ignore[arg-type]
    real, error = np.asarray(placed.action_mask), np.where(placed.action_mask, flow, 0)
    by_row = error.sum(axis=(0, 2, 3)) / (3 * real.sum(axis=(1, 2)))
    of_tokens = entropy.sum(axis=1) / np.asarray(placed.answer.mask).sum(axis=1)
    assert [float(one.counted) for one in (parts.loss, parts.flow, parts.entropy)] == [8, 8, 8]
    np.testing.assert_allclose(float(parts.loss.total), (2 * by_row + 0.5 * of_tokens).sum(), rtol=1e-5)
    np.testing.assert_allclose(float(parts.flow.total), by_row.sum(), rtol=1e-5)
    np.testing.assert_allclose(float(parts.by_time.total.sum()), error.sum(), rtol=1e-5)
    assert float(parts.by_dimension.counted.sum()) == 3 * real.sum()
    monkeypatch.setattr(losses, "joint_errors", lambda *_, **__: JointErrors(jnp.asarray(flow), None))
    alone = losses.flow_parts(  # type: ignore[arg-type]
        Pi0, placed._replace(answer=None), jax.random.key(1), settings=ActionLoss(flow_num_repeats=3)
    )
    np.testing.assert_allclose(
        float(alone.loss.total / alone.loss.counted), error.sum() / (3 * real.sum()), rtol=1e-5
    )


def test_tokens_that_nobody_learns_or_nobody_gives_are_refused(tmp_path):
    key = jax.random.key(0)
    answered = place_batch(source("pi05", answer_len=24).batch(0), make_mesh())
    with pytest.raises(InputError, match="batches have none"):
        losses.flow_parts(Pi0, answered._replace(answer=None), key, settings=INSULATED)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="would leave them unused"):
        losses.flow_parts(Pi0, answered, key)  # type: ignore[arg-type]
    with pytest.raises(ContractError, match="no action tokenizer"):
        train(config(loss=INSULATED), source("pi05"), tmp_path / "a")
    with pytest.raises(InputError, match="has no flow"):
        train(config(loss=INSULATED), source("pi0_fast"), tmp_path / "b")
    for wrong in ({"flow_weight": 0.0}, {"token_weight": float("inf")}, {"flow_num_repeats": 0}):
        with pytest.raises(InputError, match="loss"):
            ActionLoss(**wrong)


@pytest.mark.parametrize("family", ["pi0", "pi05"])
def test_a_loader_writes_the_actions_as_tokens(tmp_path, family):
    world = make_pictured(tmp_path)
    codec = world.codec("pi0_fast")
    contract = world.contract(family, fast=action_vocabulary(codec))
    row = replace(world.source(family), contract=contract)
    with world.loader(row, family, codec=codec, answer_len=64, shuffle=False) as loader:
        batch = loader.at(0)
    prompts = loader._assembler.opened[0].rows.answers.prompts
    for tokens, mask, actions in zip(batch.answer, batch.answer_mask, batch.actions, strict=True):
        ids = tokens[mask]
        assert ids[-2:].tolist() == prompts.answer_end[-2:].tolist()
        continued = family == "pi05"  # whose prompt ends in "Action: "
        decoded = prompts.ids_to_actions(ids, horizon=len(actions), dim=3, continued=continued)
        np.testing.assert_allclose(decoded.actions, actions[:, :3], atol=0.3)
    with (
        pytest.warns(UserWarning, match="answer_len"),
        world.loader(row, family, codec=codec, answer_len=3) as short,
    ):
        next(short.batches())
    with pytest.raises(InputError, match="codec"):
        world.loader(row, family, answer_len=64)
