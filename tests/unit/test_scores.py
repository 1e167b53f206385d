"""Scores of a vocabulary are computed a few positions at a time, to the same losses and gradients."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
from flax import nnx

from pioxide.models import Gemma, GemmaConfig, scores

WIDTH, LENGTH = 64, 11


def losses(chunk, monkeypatch, last=LENGTH):
    """What tokens up to `last` cost, the gradient of the outputs before them."""
    monkeypatch.setattr(scores, "CHUNK", chunk)
    how = {"param_dtype": jnp.float32, "dtype": jnp.float32}
    language = Gemma(nnx.Rngs(0), replace(GemmaConfig.dummy(), vocab=512), **how)
    rng = np.random.default_rng(0)
    out = jnp.asarray(rng.normal(0, 1, (3, LENGTH, WIDTH)), jnp.float32)
    targets = jnp.asarray(rng.integers(0, 512, (3, LENGTH)))
    counted = jnp.asarray((rng.random((3, LENGTH)) < 0.5) & (np.arange(LENGTH) < last))

    def total(out):
        found = scores.score_tokens(language, out, targets, counted)
        return found.entropy.sum(), found

    (_, found), gradient = jax.value_and_grad(total, has_aux=True)(out)
    return found, gradient


def test_chunks_change_nothing(monkeypatch):
    whole, gradient = losses(LENGTH, monkeypatch)
    assert 0 < whole.counted.sum() < whole.counted.size
    parts, of_parts = losses(4, monkeypatch)
    np.testing.assert_allclose(parts.entropy, whole.entropy, rtol=1e-5, atol=1e-6)
    np.testing.assert_array_equal(parts.counted, whole.counted)
    np.testing.assert_array_equal(parts.correct, whole.correct)
    np.testing.assert_allclose(of_parts, gradient, rtol=1e-4, atol=1e-6)


def test_nothing_to_score_costs_nothing_and_teaches_nothing(monkeypatch):
    found, gradient = losses(4, monkeypatch, last=0)
    assert float(found.entropy.sum()) == 0
    assert not np.asarray(gradient).any()
