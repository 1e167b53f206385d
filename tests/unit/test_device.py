"""A device's fused attention is used only where it gives what the plain computation gives."""

import jax
import jax.numpy as jnp
import pytest

from pioxide.engine import device
from pioxide.models.attention import attend
from pioxide.models.tuning import GPU, HOPPER, Tuning


@pytest.mark.parametrize(
    ("fused", "agrees"),
    [
        (attend, True),
        (lambda q, k, v, mask: attend(q, k, v, jnp.ones_like(mask)), False),
        (lambda q, k, v, mask: attend(q * 2, k, v, mask), False),
        (lambda q, k, v, mask: attend(q, k, v, mask) * jnp.nan, False),
        (lambda q, k, v: attend(q, k, v, jnp.ones((2, 128, 256), bool)), False),
    ],
    ids=["the same", "no mask", "another scale", "nan", "fails"],
)
def test_a_fused_attention_is_tried_against_the_plain_one(fused, agrees):
    assert device.fused_attention_agrees(fused) == agrees


@jax.custom_vjp
def unlearnt(query, key, value, mask):
    return attend(query, key, value, mask)


unlearnt.defvjp(
    lambda *given: (attend(*given), given),
    lambda given, pull: (*(jnp.zeros_like(x) for x in given[:3]), None),
)


def padded_with_nan(query, key, value, mask):
    out = attend(query, key, value, mask)
    # As a kernel that divides by how much a token sees: NaN, times a pull of zero, is NaN.
    return out / jnp.where(mask.any(-1), 1, 0)[..., None, None].astype(out.dtype)


@pytest.mark.parametrize(
    ("fused", "agrees"),
    [(attend, True), (unlearnt, False), (padded_with_nan, False)],
    ids=["the same", "no gradient", "nan of padding"],
)
def test_for_training_its_gradients_are_tried_too(fused, agrees):
    assert device.fused_attention_agrees(fused)
    assert device.fused_attention_agrees(fused, gradients=True) == agrees


def test_a_device_whose_fused_attention_is_wrong_does_without_and_says_so(monkeypatch):
    monkeypatch.setattr(Tuning, "here", classmethod(lambda cls: HOPPER))
    monkeypatch.setattr(device, "fused_attention_agrees", lambda fused, gradients: False)
    with pytest.warns(UserWarning, match="plain computation"):
        assert device.tuning_here() == GPU
    monkeypatch.setattr(device, "fused_attention_agrees", lambda fused, gradients: True)
    assert device.tuning_here() == HOPPER
