"""One update: gradients of a batch's loss, clipping, AdamW, the moving average. Compiled once.

The state is donated: whoever keeps a reference to the one before keeps deleted arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Int

from pioxide.models import gathered_outside_layers
from pioxide.train.augment import augment
from pioxide.train.config import AdamW, CosineSchedule, Ema, TrainConfig
from pioxide.train.losses import Batch, Parts, parts_of


class TrainState(NamedTuple):
    """All that changes, and the frozen parameters. Trees are pure: dicts and lists of arrays.

    Attributes:
        step: Updates done.
        trained: float32 parameters.
        frozen: The others.
        optimizer: Optax's.
        ema: The average of `trained`, or None.
    """

    step: Int[Array, ""]
    trained: Any
    frozen: Any
    optimizer: Any
    ema: Any


class StepResult(NamedTuple):
    """What an update says of itself.

    Attributes:
        parts: The loss and what it is made of, as sums and counts.
        grad_norm: Of all trained parameters' gradients together, before clipping.
        update_norm: Of what was added to the parameters.
        param_norm: Of all trained parameters.
        learning_rate: Of this update.
        good: Whether loss and gradients are finite and something was counted. Where not, the state is as
            before, its step too.
    """

    parts: Parts
    grad_norm: Float[Array, ""]
    update_norm: Float[Array, ""]
    param_norm: Float[Array, ""]
    learning_rate: Float[Array, ""]
    good: Any


def make_schedule(schedule: CosineSchedule, steps: int) -> optax.Schedule:
    """Returns the learning rate by updates done."""
    made = optax.warmup_cosine_decay_schedule(
        init_value=schedule.peak / (schedule.warmup + 1),
        peak_value=schedule.peak,
        warmup_steps=schedule.warmup,
        decay_steps=steps if schedule.decay is None else schedule.decay,
        end_value=schedule.end,
    )

    def rate(count: Any) -> Any:
        with jax.numpy_dtype_promotion("standard"):
            return made(count)

    return rate


def make_optimizer(settings: AdamW, schedule: optax.Schedule) -> optax.GradientTransformation:
    """Returns clipping by the global norm, then AdamW."""
    chain = optax.chain(
        optax.clip_by_global_norm(settings.clip),
        optax.adamw(
            schedule, b1=settings.b1, b2=settings.b2, eps=settings.eps, weight_decay=settings.weight_decay
        ),
    )

    def update(updates: Any, state: Any, params: Any = None) -> tuple[Any, Any]:
        # Optax mixes whole numbers with others, which a strict JAX refuses.
        with jax.numpy_dtype_promotion("standard"):
            return chain.update(updates, state, params)

    return optax.GradientTransformation(chain.init, update)


def norm_of(tree: Any) -> Float[Array, ""]:
    """Returns the root of the sum of all squares."""
    return jnp.sqrt(sum((jnp.sum(jnp.square(leaf)) for leaf in jax.tree.leaves(tree)), jnp.float32(0)))


def state_shapes(config: TrainConfig, trained: Any, frozen: Any) -> TrainState:
    """Returns the shapes and places of the state before the first update.

    Args:
        config: The run's.
        trained: The trained parameters, or their shapes with places; moments are where these are.
        frozen: The others.
    """
    optimizer = make_optimizer(config.optimizer, make_schedule(config.schedule, config.steps))
    return _shapes(config, optimizer, trained, frozen)


def _shapes(
    config: TrainConfig, optimizer: optax.GradientTransformation, trained: Any, frozen: Any
) -> TrainState:
    by_path = {
        jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(trained)
    }
    whole = _replicated(trained)

    def shape(leaf: Any, sharding: Any) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    def place(path: Any, leaf: Any) -> jax.ShapeDtypeStruct:
        name = jax.tree_util.keystr(path)
        own = next((p for n, p in by_path.items() if name.endswith(n) and p.shape == leaf.shape), None)
        return shape(leaf, whole if own is None else own.sharding)

    trained, frozen = jax.tree.map(lambda leaf: shape(leaf, leaf.sharding), (trained, frozen))
    moments = jax.tree_util.tree_map_with_path(place, jax.eval_shape(optimizer.init, trained))
    done: Any = jax.ShapeDtypeStruct((), jnp.int32, sharding=whole)
    return TrainState(done, trained, frozen, moments, trained if config.ema.decay else None)


def start(config: TrainConfig, trained: Any, frozen: Any) -> TrainState:
    """Returns the state before the first update."""
    optimizer = make_optimizer(config.optimizer, make_schedule(config.schedule, config.steps))
    shapes = _shapes(config, optimizer, trained, frozen)
    # A copy: an alias of donated arrays would be deleted with them.
    ema = jax.tree.map(jnp.copy, trained) if config.ema.decay else None
    done = jax.device_put(jnp.zeros((), jnp.int32), shapes.step.sharding)
    places = jax.tree.map(lambda leaf: leaf.sharding, shapes.optimizer)
    return TrainState(done, trained, frozen, jax.jit(optimizer.init, out_shardings=places)(trained), ema)


def _replicated(tree: Any) -> Any:
    sharding = jax.tree.leaves(tree)[0].sharding
    mesh = _mesh(tree)
    return sharding if mesh is None else NamedSharding(mesh, PartitionSpec())


def _mesh(tree: Any) -> Mesh | None:
    sharding = jax.tree.leaves(tree)[0].sharding
    mesh = sharding.mesh if isinstance(sharding, NamedSharding) else None
    return mesh if isinstance(mesh, Mesh) else None


def make_step(
    config: TrainConfig, graph: Any, like: TrainState, *, max_delay: int = 0
) -> Callable[[TrainState, Batch], tuple[TrainState, StepResult]]:
    """Returns the compiled update; the state given to it is deleted.

    Args:
        config: The run's.
        graph: Of the network, as `nnx.split` gives it.
        like: The state, or one of the same places: what an update returns lies where it lay before.
        max_delay: The contract's, for trained real-time chunking.
    """
    schedule = make_schedule(config.schedule, config.steps)
    optimizer = make_optimizer(config.optimizer, schedule)
    root = config.seed
    mesh = _mesh(like.trained)

    def total(trained: Any, frozen: Any, batch: Batch, key: Any) -> tuple[Any, Parts]:
        if mesh is not None and mesh.size > 1:
            trained, frozen = gathered_outside_layers((trained, frozen), mesh)
        model = nnx.merge(graph, trained, frozen)
        parts = parts_of(
            model, batch, key, max_delay, learn_padding=config.learn_padding, settings=config.loss
        )
        return parts.loss.total, parts

    gradient = jax.grad(total, has_aux=True)

    def part(state: TrainState, batch: Batch, index: Any) -> tuple[Any, Parts]:
        key = jax.random.fold_in(jax.random.fold_in(jax.random.key(root), state.step), index)
        loss_key, image_key = jax.random.split(key)
        if config.augment:
            images = augment(batch.observation.images, image_key)
            batch = batch._replace(observation=batch.observation._replace(images=images))
        return gradient(state.trained, state.frozen, batch, loss_key)

    def summed(state: TrainState, batch: Batch) -> tuple[Any, Parts]:
        if config.accumulate == 1:
            return part(state, batch, 0)
        # Row i goes to part i % n, so that each device keeps the rows that it has.
        split = jax.tree.map(lambda x: x.reshape(-1, config.accumulate, *x.shape[1:]).swapaxes(0, 1), batch)
        first = jax.eval_shape(part, state, jax.tree.map(lambda x: x[0], split), 0)
        zeros = jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), first)

        def body(carry: Any, item: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, carry, part(state, *item)), None

        return jax.lax.scan(body, zeros, (split, jnp.arange(config.accumulate)))[0]

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, StepResult]:
        gradients, parts = summed(state, batch)
        count = parts.loss.counted
        gradients = jax.tree.map(lambda g: g.astype(jnp.float32) / jnp.maximum(count, 1.0), gradients)
        norm = norm_of(gradients)
        updates, moments = optimizer.update(gradients, state.optimizer, state.trained)
        trained = optax.apply_updates(state.trained, updates)
        good = jnp.isfinite(norm) & jnp.isfinite(parts.loss.total) & (count > 0)
        new = TrainState(state.step + 1, trained, None, moments, _averaged(config.ema, state, trained))
        kept = jax.tree.map(lambda a, b: jnp.where(good, a, b), new, state._replace(frozen=None))
        said = StepResult(
            parts,
            norm,
            norm_of(updates),
            norm_of(state.trained),
            jnp.asarray(schedule(state.step), jnp.float32),
            good,
        )
        return kept._replace(frozen=state.frozen), said

    places = jax.tree.map(lambda leaf: leaf.sharding, like)
    # Numbers about an update are whole on each host.
    return jax.jit(step, donate_argnums=0, out_shardings=(places, _replicated(like.trained)))


def _averaged(config: Ema, state: TrainState, trained: Any) -> Any:
    """Returns the moving average of the trained parameters after an update, or None where none is kept."""
    if not config.decay:
        return state.ema
    done = state.step.astype(jnp.float32)
    decay = jnp.minimum(config.decay, (1 + done) / (10 + done) if config.warmup else 1.0)
    return jax.tree.map(lambda old, new: old + (1 - decay) * (new - old), state.ema, trained)
