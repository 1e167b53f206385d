"""Merging openpi's low-rank updates gives the layer that its own forward equations compute."""

import numpy as np
import pytest

from pioxide.weights import MemoryTree, MergedTree, load
from pioxide.weights.lora import lora_of
from support.checkpoints import SMALL, lora, random_arrays, write_orbax

ARCHITECTURE = lora(SMALL["pi0"])
B, T = 2, 5


@pytest.fixture(scope="module")
def arrays() -> dict:
    return {path: a.astype(np.float64) for path, a in random_arrays(ARCHITECTURE.shapes()).items()}


def layer(arrays: dict, path: str, i: int = 1) -> np.ndarray:
    return arrays[f"PaliGemma/llm/layers/{path}"][i]


def merged(arrays: dict, path: str, scale: float = 1.0, i: int = 1) -> np.ndarray:
    tree = MergedTree(MemoryTree({p: a.astype(np.float32) for p, a in arrays.items()}), scale)
    return tree.read(f"PaliGemma/llm/layers/{path}")[i].astype(np.float64)


@pytest.mark.parametrize("_", ["", "_1"])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_attention_merges_as_openpi_computes_it(arrays, _, scale):
    rng = np.random.default_rng(1)
    width = layer(arrays, f"attn/q_einsum{_}/w").shape[1]
    x = rng.standard_normal((B, T, width))
    encoded = rng.standard_normal((B, T, 8, 16))

    def einsum(equation: str, x: np.ndarray, name: str, path: str) -> np.ndarray:
        """The base product plus, by way of the rank, x A B with the same equation's letters."""
        first, second = path.split(", ")
        plain = np.einsum(equation, x, layer(arrays, f"attn/{name}{_}/w"))
        down = np.einsum(first, x, layer(arrays, f"attn/{name}{_}/lora_a"))
        return plain + scale * np.einsum(second, down, layer(arrays, f"attn/{name}{_}/lora_b"))

    # The letters are openpi's: L is the rank. In the last one the heads are gone before B is reached.
    q = einsum("BTD,NDH->BTNH", x, "q_einsum", "BTD,NDL->BTNL, BTNL,NLH->BTNH")
    kv = einsum("BSD,2KDH->2BSKH".replace("2", "C"), x, "kv_einsum", "BSD,CKDL->CBSKL, CBSKL,CKLH->CBSKH")
    out = einsum("BTNH,NHD->BTD", encoded, "attn_vec_einsum", "BTNH,NHL->BTL, BTL,NLD->BTD")
    assert_close(np.einsum("BTD,NDH->BTNH", x, merged(arrays, f"attn/q_einsum{_}/w", scale)), q)
    assert_close(np.einsum("BSD,CKDH->CBSKH", x, merged(arrays, f"attn/kv_einsum{_}/w", scale)), kv)
    assert_close(
        np.einsum("BTNH,NHD->BTD", encoded, merged(arrays, f"attn/attn_vec_einsum{_}/w", scale)), out
    )


@pytest.mark.parametrize("_", ["", "_1"])
@pytest.mark.parametrize("scale", [1.0, 0.5])
def test_mlp_merges_without_the_scale(arrays, _, scale):
    rng = np.random.default_rng(2)
    gate = layer(arrays, f"mlp{_}/gating_einsum")
    a, b = layer(arrays, f"mlp{_}/gating_einsum_lora_a"), layer(arrays, f"mlp{_}/gating_einsum_lora_b")
    x = rng.standard_normal((B, gate.shape[1]))
    got = merged(arrays, f"mlp{_}/gating_einsum", scale)
    for g in (0, 1):
        assert_close(x @ got[g], x @ gate[g] + (x @ a[g]) @ b[g])
    linear = layer(arrays, f"mlp{_}/linear")
    a, b = layer(arrays, f"mlp{_}/linear_lora_a"), layer(arrays, f"mlp{_}/linear_lora_b")
    h = rng.standard_normal((B, linear.shape[0]))
    assert_close(h @ merged(arrays, f"mlp{_}/linear", scale), h @ linear + (h @ a) @ b)


def test_everything_else_stays_as_it_is(arrays):
    small = {path: a.astype(np.float32) for path, a in arrays.items()}
    tree = MergedTree(MemoryTree(small))
    assert set(tree.specs) == set(SMALL["pi0"].shapes())
    for path in tree.specs:
        if lora_of(path) is None:
            assert np.array_equal(tree.read(path), small[path])


def test_weights_frozen_in_bfloat16_merge_in_float32(tmp_path):
    import ml_dtypes

    arrays = random_arrays(ARCHITECTURE.shapes(), ml_dtypes.bfloat16)
    write_orbax(arrays, tmp_path / "params", value=True)
    with load(tmp_path).merged() as checkpoint:
        assert checkpoint.architecture == SMALL["pi0"]
        assert not checkpoint.problems()
        path = "PaliGemma/llm/layers/mlp/linear"
        got = checkpoint.tree.read(path)
        a, b = (arrays[f"{path}_lora_{x}"].astype(np.float32) for x in "ab")
        assert got.dtype == np.float32
        assert_close(got, arrays[path].astype(np.float32) + a @ b)


def test_one_expert_alone_may_have_updates(tmp_path):
    from dataclasses import replace

    base, expert = ARCHITECTURE.experts
    only = replace(ARCHITECTURE, experts=(replace(base, lora_attention=0, lora_mlp=0), expert))
    write_orbax(random_arrays(only.shapes()), tmp_path / "params", value=True)
    with load(tmp_path) as checkpoint:
        assert checkpoint.architecture == only
        assert not checkpoint.problems()
        assert set(checkpoint.merged().tree.specs) == set(SMALL["pi0"].shapes())


def assert_close(got: np.ndarray, want: np.ndarray) -> None:
    np.testing.assert_allclose(got, want, rtol=2e-5, atol=2e-4)
