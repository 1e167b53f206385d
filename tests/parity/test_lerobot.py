"""What LeRobot recorded, against pioxide: the ids of every prompt."""

from pathlib import Path

import numpy as np
import pytest

from pioxide.codec import TextTokenizer
from support.lerobot_policies import TEXT_MODEL, case, cases

BOS = 2


@pytest.mark.parametrize("name", [*cases("processors"), *cases("model")])
def test_texts_that_lerobot_tokenized_have_its_ids(name: str) -> None:
    what, recorded = case(name)
    tokenizer = TextTokenizer.load(Path(TEXT_MODEL))
    slots = recorded["pre.tokens"].shape[1]
    for text, tokens, mask in zip(what["prompts"], recorded["pre.tokens"], recorded["pre.mask"], strict=True):
        ids = [BOS, *tokenizer.encode(text)][:slots]
        assert mask.tolist() == [i < len(ids) for i in range(slots)]
        np.testing.assert_array_equal(tokens[mask], ids)
