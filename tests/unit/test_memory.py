"""What a policy sees of the past: the frames that training saw, by time, of one episode, and no others."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pioxide.contract import Memory
from pioxide.data.loader import CacheSettings, Loader, LoaderSettings
from pioxide.engine import Engine
from pioxide.errors import ContractError, InputError
from pioxide.family import Family
from pioxide.models import make_mesh
from pioxide.models.memory import MemoryConfig
from pioxide.models.tuning import PLAIN
from pioxide.policy import Policy
from pioxide.policy.history import IN_A_STRIDE, History, Seen
from pioxide.train import CosineSchedule, ModelSettings, TrainConfig
from pioxide.train.augment import augment
from pioxide.train.config import Size
from pioxide.train.contracts import Numbers, run_contract
from pioxide.train.network import model_config, plan_network
from pioxide.train.place import place_batch
from pioxide.train.step import make_step, state_shapes
from pioxide.weights import save
from support.loading import LENGTHS, SIZE, SLOTS, make_pictured
from support.models import random_model
from support.remembering import MEMORY, observation, remembering, small
from support.training import SLOT, ToySource
from support.videos import CAMERAS, FPS, number_in, picture_number

STEP = 5  # frames of the dataset in a stride
STARTS = np.cumsum([0, *LENGTHS])


def moment(number, at):
    return Seen(at, {"eye": np.full((1, 1, 3), number, np.uint8)})


def numbers(seen):
    return [None if one is None else int(one.images["eye"][0, 0, 0]) for one in seen]


def test_a_loop_at_any_rate_with_frames_dropped_sees_the_nearest_frames():
    for hz, dropped in ((30, ()), (10, (7, 12)), (25, (9, 10, 11))):
        history = History(Memory(frames=3, stride=1.0))
        for tick in range(3 * hz + 1):
            if tick in dropped:
                continue
            seen = history.look_back(moment(tick, 100 + tick / hz))
            if tick in (hz - 1, 2 * hz - 1):  # one frame more of the past is there each second
                assert numbers(seen).count(None) == 3 - (tick + 1) // hz
        assert numbers(seen) == [hz, 2 * hz, 3 * hz]
        assert len(history) <= 3.2 * hz


def test_a_frame_that_is_missing_is_an_error_and_not_another_frame():
    history = History(Memory(frames=3, stride=1.0))
    history.add(moment(0, 0.0))
    with pytest.raises(InputError, match=r"no frame of 1 s ago.*0\.5 s off.*policy\.observe"):
        history.look_back(moment(1, 1.5))
    with pytest.raises(InputError, match="before the first frame of the episode"):
        history.add(moment(2, -1.0))
    history.clear()
    assert numbers(history.look_back(moment(3, -1.0))) == [None, None, 3]


def test_frames_that_came_after_a_question_are_not_seen_by_its_answer():
    history = History(Memory(frames=2, stride=1.0))
    for tick in range(31):
        history.add(moment(tick, tick / 10))
    assert numbers(history.look_back(moment(20, 2.0))) == [10, 20]
    assert numbers(history.look_back(moment(30, 3.0))) == [20, 30]


def test_what_is_kept_has_a_bound_however_fast_frames_come():
    history = History(Memory(frames=3, stride=1.0))
    for tick in range(20_000):
        history.add(moment(tick % 256, tick / 1000))
    assert len(history) <= IN_A_STRIDE * 4


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return make_pictured(tmp_path_factory.mktemp("world"))


def shown(film):
    """What numbers the pictures of a film [..., S, S, 3] carry."""
    return [number_in(image, SIZE) for image in film.reshape(-1, *film.shape[-3:])]


def batches(world, cache=None, **settings):
    options = {"batch_size": 8, "shuffle": False, "repeat": False, "drop_last": False} | settings
    source = replace(world.source("pi05"), contract=remembering(world))
    with Loader(source, LoaderSettings(**options), world.tokenizer, cache=cache) as loader:
        return list(loader.batches())


def test_training_sees_frames_a_stride_apart_of_one_episode_cached_or_not(world, tmp_path):
    made = batches(world)
    for camera, slot in enumerate(("base_0_rgb", "left_wrist_0_rgb")):
        images = np.concatenate([batch.images[slot] for batch in made])
        masks = np.concatenate([batch.image_masks[slot] for batch in made])
        assert images.shape == (STARTS[-1], 3, SIZE, SIZE, 3)
        for row in range(STARTS[-1]):
            first = STARTS[np.searchsorted(STARTS, row, side="right") - 1]
            back = [row - 2 * STEP, row - STEP, row]
            wanted = [picture_number(camera, one) if one >= first else -1 for one in back]
            assert [number_in(image, SIZE) for image in images[row]] == wanted
            assert masks[row].tolist() == [one >= first for one in back]
    cached = batches(world, cache=CacheSettings(tmp_path))
    for one, two in zip(made, cached, strict=True):
        assert shown(one.images["base_0_rgb"]) == shown(two.images["base_0_rgb"])


def test_a_run_that_goes_on_sees_the_same_past(world):
    source = replace(world.source("pi05"), contract=remembering(world))
    settings = LoaderSettings(batch_size=6, seed=3)
    with Loader(source, settings, world.tokenizer) as loader:
        first = [batch for batch, _ in zip(loader.batches(), range(4), strict=False)]
        again = next(loader.batches(3))
        np.testing.assert_array_equal(again.images["base_0_rgb"], first[3].images["base_0_rgb"])
        np.testing.assert_array_equal(again.image_masks["base_0_rgb"], first[3].image_masks["base_0_rgb"])
        np.testing.assert_array_equal(again.tokens, loader.at(3).tokens)


def test_a_stride_between_a_datasets_frames_is_refused(world):
    contract = remembering(world)
    source = replace(world.source("pi05"), contract=replace(contract, memory=Memory(3, 0.25, 2)))
    with pytest.raises(InputError, match=r"stride of 0\.25 s is 2\.5 frames.*0\.2 s is the nearest"):
        Loader(source, LoaderSettings(batch_size=2), world.tokenizer)


@pytest.fixture(scope="module")
def policy(world):
    return small(world)


def uploaded(monkeypatch):
    """What engines are asked from now on; none computes."""
    asked = []

    def run(self, inputs):
        asked.append(inputs)
        raise InterruptedError

    monkeypatch.setattr(Engine, "run", run)
    return asked


def test_a_session_that_saw_an_episode_holds_what_training_sees_of_each_frame(world, policy, monkeypatch):
    asked = uploaded(monkeypatch)
    made = batches(world, exact_images=True, batch_size=LENGTHS[0])[0]
    session = policy.new_session()
    for frame in range(LENGTHS[0]):
        seen = observation(frame)
        if frame % 4:  # a chunk is asked for now and then, and each frame is shown
            policy.observe(seen, [session], at=[7 + frame / FPS])
            continue
        with pytest.raises(InterruptedError):
            policy(seen, session=session, at=7 + frame / FPS)
        for slot, mask in made.image_masks.items():
            np.testing.assert_array_equal(asked[-1].image_masks[slot][0], mask[frame])
            assert shown(asked[-1].images[slot][0]) == shown(made.images[slot][frame])


def test_each_robot_of_a_batch_has_its_own_past_and_none_without_a_session(policy, monkeypatch):
    asked = uploaded(monkeypatch)
    old, new = policy.new_session(), policy.new_session()
    for at in (0.0, 0.5):
        policy.observe(observation(int(10 * at)), [old], at=[at])

    def there(sessions, at):
        with pytest.raises(InterruptedError):
            policy.batch([observation(10)] * 2, sessions, at=at)
        return asked[-1].image_masks["base_0_rgb"].tolist()

    assert there([old, new], [1.0, 55.0]) == [[True] * 3, [False, False, True]]
    assert there(None, None) == [[False, False, True]] * 2
    old.forget()
    assert there([new, old], [55.5, 1.5]) == [[False, True, True], [False, False, True]]
    # A camera that was away is masked in that frame alone.
    policy.observe(observation(20, **{CAMERAS[1]: None}), [new], at=[56.0])
    there([new, old], [56.5, 2.0])
    assert asked[-1].image_masks["left_wrist_0_rgb"].tolist() == [[True, False, True], [False, True, True]]
    with pytest.raises(InputError, match="expected seconds, got nan"):
        policy(observation(3), at=float("nan"))
    with pytest.raises(InputError, match="at: expected one for each of 1 observations, got 2"):
        policy.observe(observation(1), at=[0.0, 1.0])
    with pytest.raises(InputError, match="one of its own for each"):
        policy.observe([observation(1)] * 2)
    state = new.state()
    assert state["seen"]["frames"] == [55.0, 55.5, 56.0, 56.5]
    with pytest.raises(InputError, match="have to be given along"):
        old.restore(state)


def test_a_first_answer_is_that_of_the_same_weights_without_memory(world, policy):
    plain = small(world, memory=None)
    rng = np.random.default_rng(0)
    noise = rng.standard_normal(policy.noise_shape, np.float32)
    alone = plain(observation(3), noise=noise).actions
    sessions = [policy.new_session(), policy.new_session()]
    policy.observe(observation(9), sessions[:1], at=[0.0])
    past, first = policy.batch([observation(3)] * 2, sessions, noise=[noise] * 2, at=[0.5, 0.5])
    np.testing.assert_allclose(first.actions, alone, rtol=1e-4, atol=1e-4)
    assert np.abs(past.actions - alone).max() > 1e-3


def test_who_can_not_show_the_past_is_refused(world, policy, tmp_path):
    with pytest.raises(ContractError, match="memory"):
        Policy(random_model(replace(policy.engine.config, memory=None)), policy.contract, world.tokenizer)
    with pytest.raises(ContractError, match="memory: this model sees the past"):
        save(random_model(policy.engine.config), tmp_path / "saved")


def test_a_run_says_its_memory_and_models_without_a_past_refuse_it(world):
    fitted = world.contract("pi05")
    slots = {slot.slot: slot.key for slot in SLOTS}
    said = Numbers(memory_frames=6, memory_stride=0.5, memory_every=2)
    assert run_contract(fitted, said, Size.TINY, cameras=slots).memory == Memory(6, 0.5, 2)
    assert run_contract(fitted, Numbers(), Size.TINY, cameras=slots).memory is None
    with pytest.raises(InputError, match="memory_frames: π0 sees no past"):
        run_contract(fitted, replace(said, family=Family.PI0), Size.TINY)


def test_an_update_takes_films():
    source = ToySource("pi05", rows=2, image_size=28)
    contract = replace(source.contract, memory=MEMORY)
    film = np.zeros((2, 3, source.image_size, source.image_size, 3), np.uint8)
    batch = replace(source.batch(0), images={SLOT: film}, image_masks={SLOT: np.ones((2, 3), bool)})
    settings = ModelSettings(size=Size.TINY, dtype="float32", frozen_dtype="float32")
    config = TrainConfig(steps=2, batch_size=2, schedule=CosineSchedule(warmup=1), model=settings)
    model = model_config(contract, settings, source.tokenizer.vocab_size)
    assert model.memory == MemoryConfig(3, 2)
    mesh = make_mesh()
    plan = plan_network(config, model, mesh, PLAIN)
    state = state_shapes(config, plan.trained, plan.frozen)
    step = make_step(config, plan.graph, state)
    _, said = jax.eval_shape(step, state, place_batch(batch, mesh))
    assert said.parts.loss.total.shape == ()
    with pytest.raises(InputError, match="memory_every 3: this network's vision tower has 2 layers"):
        model_config(replace(contract, memory=Memory(3, 0.5, 3)), settings, source.tokenizer.vocab_size)


def test_frames_of_one_camera_are_changed_alike(world):
    film = np.repeat(np.random.default_rng(0).integers(0, 256, (2, 1, 8, 8, 3), np.uint8), 3, axis=1)
    changed = np.asarray(augment({"base": jnp.asarray(film)}, jax.random.key(0))["base"])
    np.testing.assert_allclose(changed, np.repeat(changed[:, :1], 3, axis=1))
    assert np.abs(changed[0] - changed[1]).max() > 0.1
