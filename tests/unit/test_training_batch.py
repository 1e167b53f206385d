"""Rows of tokens become what a model's loss takes, and rows of another model are refused."""

import numpy as np
import pytest

from pioxide.errors import InputError
from pioxide.models import Pi0Config, Pi0FastConfig, training_batch

CAMERA = Pi0Config.tiny().cameras[0]
IMAGES = {CAMERA: np.zeros((2, 28, 28, 3), np.uint8)}


def rows(**others):
    tokens = np.arange(2 * 12, dtype=np.int32).reshape(2, 12)
    common = {"episode": np.zeros(2, np.int32), "tokens": tokens, "mask": tokens % 12 < 9}
    return common | others


ACTIONS = np.random.default_rng(0).standard_normal((2, 6, 5), np.float32)
STATE = np.random.default_rng(1).standard_normal((2, 4), np.float32)


def test_state_and_actions_are_padded_to_the_models_width():
    batch = training_batch(Pi0Config.tiny(), rows(state=STATE, actions=ACTIONS), IMAGES)
    np.testing.assert_array_equal(batch.observation.state, np.pad(STATE, ((0, 0), (0, 3))))
    np.testing.assert_array_equal(batch.actions, np.pad(ACTIONS, ((0, 0), (0, 0), (0, 2))))
    np.testing.assert_array_equal(batch.observation.token_mask, rows()["mask"])
    assert list(batch.observation.images) == [CAMERA]


def test_pi05_has_its_state_in_the_text_and_pi0_fast_its_actions():
    flow = training_batch(Pi0Config.tiny(pi05=True), rows(actions=ACTIONS), IMAGES)
    assert flow.observation.state is None
    suffix = rows()["tokens"] % 12 > 6
    masks = {"ar_mask": suffix.astype(np.int32), "loss_mask": suffix}
    lost = {CAMERA: np.array([True, False])}
    fast = training_batch(Pi0FastConfig.tiny(), rows(**masks), IMAGES, lost)
    assert fast.actions is None
    np.testing.assert_array_equal(fast.observation.loss_mask, suffix)
    np.testing.assert_array_equal(fast.observation.image_masks[CAMERA], [True, False])


@pytest.mark.parametrize(
    ("config", "columns", "message"),
    [
        (Pi0Config.tiny(), {"actions": ACTIONS}, "π0 learns from 'state'.*another model"),
        (Pi0FastConfig.tiny(), {"actions": ACTIONS}, "π0-FAST learns from 'ar_mask'"),
        (Pi0Config.tiny(pi05=True), {"actions": ACTIONS[:, :4]}, "chunks of 4 steps.*horizon of 6"),
        (Pi0Config.tiny(pi05=True), {"actions": np.zeros((2, 6, 8))}, "8 dimensions.*7 wide"),
    ],
    ids=["state", "masks", "horizon", "width"],
)
def test_rows_of_another_model_are_refused(config, columns, message):
    with pytest.raises(InputError, match=message):
        training_batch(config, rows(**columns), IMAGES)
