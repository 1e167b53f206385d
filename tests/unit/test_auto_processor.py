"""openpi's and LeRobot's call for an action tokenizer works on what `FastCodec.save` writes."""

import numpy as np
import pytest

from pioxide.codec import FastCodec

pytest.importorskip("transformers")


@pytest.fixture(scope="module")
def chunks():
    return np.cumsum(np.random.default_rng(0).normal(0, 0.1, (20, 16, 7)), axis=1)


@pytest.fixture(scope="module")
def codec(chunks):
    return FastCodec.fit(chunks, vocab_size=400)


@pytest.fixture(scope="module")
def saved(codec, tmp_path_factory):
    directory = tmp_path_factory.mktemp("saved")
    codec.save(directory, horizon=16, dim=7)
    return directory


@pytest.fixture(scope="module")
def processor(saved, tmp_path_factory):
    from transformers import AutoProcessor

    with pytest.MonkeyPatch.context() as patch:
        cache = str(tmp_path_factory.mktemp("code"))
        patch.setattr("transformers.dynamic_module_utils.HF_MODULES_CACHE", cache)
        yield AutoProcessor.from_pretrained(saved, trust_remote_code=True)


def test_it_is_the_processor_with_the_codecs_ids_and_actions(processor, codec, chunks):
    assert type(processor).__name__ == "UniversalActionProcessor"
    ids = processor(chunks)
    assert ids == [codec.encode(chunk).ids.tolist() for chunk in chunks]
    assert processor(chunks[3]) == [ids[3]]
    expected = np.stack([codec.decode(one, horizon=16, dim=7).actions for one in ids])
    np.testing.assert_array_equal(processor.decode(ids, time_horizon=16, action_dim=7), expected)
    np.testing.assert_array_equal(processor.decode(ids), expected)
    settings = (processor.scale, processor.min_token, processor.vocab_size)
    assert settings == (codec.scale, codec.min_token, codec.vocab_size)


def test_it_refuses_what_it_would_lose(processor, chunks):
    ids = processor(chunks[:1])
    with pytest.raises(ValueError, match="has no token"):
        processor(np.full((1, 16, 7), 1e6))
    with pytest.raises(ValueError, match="finite"):
        processor(np.full((1, 16, 7), np.nan))
    with pytest.raises(ValueError, match="coefficients"):
        processor.decode([ids[0][:-3]])
