"""A device's fused attention is used only where it gives what the plain computation gives."""

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


def test_a_device_whose_fused_attention_is_wrong_does_without_and_says_so(monkeypatch):
    monkeypatch.setattr(Tuning, "here", classmethod(lambda cls: HOPPER))
    monkeypatch.setattr(device, "fused_attention_agrees", lambda fused: False)
    with pytest.warns(UserWarning, match="plain computation"):
        assert device.tuning_here() == GPU
    monkeypatch.setattr(device, "fused_attention_agrees", lambda fused: True)
    assert device.tuning_here() == HOPPER
