"""π0.5 says what it does next, token for token as without a cache, and acts by what it said."""

import json
from dataclasses import replace
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from pioxide.codec import SubtaskPrompts, TextTokenizer
from pioxide.demo import text_model_path
from pioxide.errors import ContractError, InputError, PolicyError
from pioxide.models import Pi0Config, TextWriter
from pioxide.models.masks import block_mask, positions
from pioxide.policy import FlowSampler, PolicyOptions, Session, SubtaskOptions
from pioxide.robots import libero
from pioxide.sampling import sample_tokens
from pioxide.transforms import Stats
from support.models import observe, random_model
from support.policies import make_policy
from support.text_model import write_text_model

ROWS, NEW = 3, 7
STATS = {
    "state": Stats(np.zeros(8), np.ones(8), np.full(8, -1.0), np.ones(8)),
    "actions": Stats(np.zeros(7), np.ones(7), np.full(7, -1.0), np.ones(7)),
}


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return TextTokenizer.load(write_text_model(tmp_path_factory.mktemp("text") / "text.model"))


@pytest.fixture(scope="module")
def model(tokenizer):
    config = replace(Pi0Config.tiny(pi05=True), text_len=96, action_dim=16)
    return random_model(replace(config, language=replace(config.language, vocab=tokenizer.vocab_size)))


@nnx.jit
def best_next(model, seen):
    """The best token behind each row's last one, by a pass over all that is there, without a cache."""
    prefix = model.embed_prefix(seen)
    mask = block_mask(prefix.valid, prefix.ar_mask)
    (out, _), _ = model.language((prefix.tokens, None), positions(prefix.valid), mask)
    last = prefix.valid.shape[1] - 1 - jnp.argmax(prefix.valid[:, ::-1], axis=1)
    return jnp.argmax(model.language.logits(out[jnp.arange(len(out)), last]), axis=-1)


def test_text_written_with_a_cache_is_that_of_whole_passes_to_the_token(model):
    seen = observe(model.config, ROWS)
    lengths, size = np.array([20, 5, 11]), seen.tokens.shape[1]
    camera = model.config.cameras[0]
    seen = seen._replace(
        token_mask=jnp.arange(size) < lengths[:, None],
        image_masks={camera: jnp.array([True, False, True])},
    )

    @nnx.jit
    def write(model, seen):
        return sample_tokens(TextWriter(model), seen, max_tokens=NEW, stop=(-7,), scan_layers=True)

    written = np.asarray(write(model, seen))
    assert len(np.unique(written)) > 4
    tokens, at = np.array(seen.tokens), np.arange(size)
    for step in range(NEW):
        whole = seen._replace(
            tokens=jnp.asarray(tokens),
            token_mask=jnp.asarray(at < lengths[:, None] + step),
            ar_mask=jnp.asarray(at >= lengths[:, None], jnp.int32),
        )
        best = np.asarray(best_next(model, whole))
        np.testing.assert_array_equal(written[:, step], best)
        tokens[np.arange(ROWS), lengths + step] = best


def test_an_answer_holds_text_and_the_end_alone(model, tokenizer):
    """Scores that favour what is no text are passed over; of the rest, the best token is written."""
    prompts = SubtaskPrompts(tokenizer, action_tokens=1024)
    words = np.array([tokenizer.piece(id) for id in range(tokenizer.vocab_size)])
    banned = words[~prompts.writable]
    assert {"<pad>", "<bos>", "<unk>", "<f0>"} <= {*banned}
    assert not {"<eos>", "▁the", "<0x41>", "\n", "▁", "<"} & {*banned}
    # A vocabulary whose last text stands for actions can't say it.
    many = SubtaskPrompts(tokenizer, action_tokens=1400 - 128 + 94)
    assert many.writable.sum() == prompts.writable.sum() - 94
    with pytest.raises(InputError, match="'!' is no text"):
        many.answer("!")
    seen = observe(model.config, ROWS)

    @nnx.jit
    def write(model, seen):
        said = [
            sample_tokens(TextWriter(model), seen, max_tokens=NEW, stop=(-7,), writable=ids, scan_layers=True)
            for ids in (None, prompts.writable)
        ]
        return *said, TextWriter(model).prefill(seen, NEW, scan_layers=True)[0]

    free, held, scores = map(np.asarray, write(model, seen))
    assert not prompts.writable[free].all()
    assert prompts.writable[held].all()
    np.testing.assert_array_equal(held[:, 0], np.where(prompts.writable, scores, -np.inf).argmax(axis=1))


@pytest.mark.parametrize("reads_state", [True, False])
def test_a_question_is_the_text_that_forks_of_openpi_write(tokenizer, reads_state):
    prompts = SubtaskPrompts(tokenizer, reads_state=reads_state, state_width=3)
    ids, cut = prompts.encode(" tidy_up\nthe table ", [-0.5, 0.25])
    state = ", State: 64 160 128" if reads_state else ""
    assert tokenizer.decode(ids) == f"Task: tidy up the table{state};\nSubtask: "
    assert not cut
    assert SubtaskPrompts(tokenizer, 5).encode("a", [0.0])[1]


def test_questions_and_answers_are_those_recorded_that_rust_is_tested_with():
    recorded = Path(__file__).parents[1] / "golden/text.json"
    cases = json.loads(recorded.read_text(encoding="utf-8"))["subtasks"]
    demo = TextTokenizer.load(text_model_path())
    for case in cases:
        prompts = SubtaskPrompts(demo, reads_state=case["reads_state"], state_width=case["state_width"])
        ids, cut = prompts.encode(case["text"], case["state"])
        assert ids.tolist() == case["question"][:200]
        assert cut == (len(case["question"]) > 200)
        # Python alone refuses what training can't have: markup as <loc0001>.
        if case["answer"] is not None and prompts.writable[case["answer"]].all():
            assert prompts.answer(case["text"]).tolist() == case["answer"]
        if case["said"] is not None:
            assert prompts.read(case["written"]) == case["said"]
        else:
            with pytest.raises(InputError, match="no end after"):
                prompts.read(case["written"])
    assert len(cases) > 40


def test_an_answer_without_an_end_or_without_words_is_none(tokenizer):
    prompts = SubtaskPrompts(tokenizer)
    ids = prompts.answer("pick up_the cup")
    assert prompts.read([*ids, 77, 78]) == "pick up the cup"
    for broken, says in ((ids[:-1], "no end after"), (ids[-1:], "no text")):
        with pytest.raises(InputError, match=says):
            prompts.read(broken)
    with pytest.raises(InputError, match="state"):
        SubtaskPrompts(tokenizer, state_width=1).encode("go", [0.0, 0.0])


class Scripted:
    """Stands for the engine that writes: each question is answered by the next text."""

    def __init__(self, engine, prompts, texts):
        self.engine, self.prompts, self.texts, self.asked = engine, prompts, list(texts), []

    def run(self, inputs):
        self.asked.append(len(inputs.tokens))
        rows = [self.prompts.answer(self.texts.pop(0)) for _ in inputs.tokens]
        tokens = np.zeros((len(rows), 32), np.int32)
        for line, ids in zip(tokens, rows, strict=True):
            line[: len(ids)] = ids
        return self.engine.run(inputs)._replace(tokens=tokens)


@pytest.fixture(scope="module")
def policies(model, tokenizer):
    """The same weights, plain and saying subtasks."""

    def made(subtask):
        options = PolicyOptions(FlowSampler(num_steps=1), subtask=subtask)
        style = None if subtask is None else "instead"
        return make_policy(model, libero(), STATS, tokenizer, options=options, subtask_style=style)

    return made(None), made(SubtaskOptions(every=2, max_tokens=8))


@pytest.fixture
def saying(policies, monkeypatch):
    """A policy whose language model says what a test wants."""

    def made(*texts):
        policy = policies[1]
        writer = policy._writer
        script = Scripted(writer.engine, writer.prompts, texts)
        monkeypatch.setattr(writer, "engine", script)
        return policy, script

    return made


def look(prompt="tidy up", seed=0):
    rng = np.random.default_rng(seed)
    return {
        "observation/image": rng.integers(0, 256, (40, 50, 3), np.uint8),
        "observation/wrist_image": rng.integers(0, 256, (40, 50, 3), np.uint8),
        "observation/state": rng.uniform(-1, 1, 8),
        "prompt": prompt,
    }


def test_actions_are_those_of_the_subtask_in_the_instructions_place(policies, saying):
    policy, _ = saying("pick up the cup")
    noise = np.zeros(policy.noise_shape, np.float32)
    said = policy(look(), session=Session(), noise=noise)
    plain = policies[0](look("pick up the cup"), session=Session(), noise=noise)
    np.testing.assert_array_equal(said.actions, plain.actions)
    assert (said.subtask.text, said.subtask.chunks, said.subtask.given) == ("pick up the cup", 0, False)
    assert plain.subtask is None
    assert said.timing.subtask > 0


def test_a_subtask_is_kept_for_its_chunks_in_each_session_of_a_batch(saying):
    policy, script = saying("a", "b", "c", "d", "e")
    one, two = Session(), Session()
    first = policy(look(), session=one)
    answers = [policy.batch([look(), look(seed=1)], [one, two]) for _ in range(3)]
    assert first.subtask.text == "a"
    said = [[answer.subtask.text for answer in both] for both in answers]
    assert said == [["a", "b"], ["c", "b"], ["c", "d"]]
    assert script.asked == [1, 1, 1, 1]
    one.forget()
    assert policy(look(), session=one).subtask.text == "e"


def test_a_caller_gives_a_subtask_and_takes_it_back(policies, saying):
    policy, script = saying("b")
    session = Session()
    session.give_subtask("put it down")
    again = Session()
    again.restore(session.state())
    for _ in range(3):
        answer = policy(look(), session=again)
        assert (answer.subtask.text, answer.subtask.given) == ("put it down", True)
    again.give_subtask(None)
    assert not script.asked
    assert policy(look(), session=again).subtask.text == "b"
    # Weights that write none take one, too.
    assert policies[0](look(), session=session).subtask.text == "put it down"
    with pytest.raises(InputError, match="expected a text"):
        session.give_subtask(" ")


def test_what_is_no_subtask_is_said_and_the_last_one_kept(saying, policies):
    session = Session()
    policy, script = saying("go on", "x", "then stop")
    policy(look(), session=session)
    real = script.prompts.answer
    script.prompts = type("Endless", (), {"answer": lambda self, text: real(text)[:-1]})()
    policy(look(), session=session)
    kept = policy(look(), session=session).subtask
    assert kept.text == "go on"
    assert "no end after" in kept.unreadable
    with pytest.raises(PolicyError, match="wrote no subtask"):
        policy(look(), session=Session())


def test_weights_that_learnt_subtasks_are_asked_before_each_chunk_by_default(model, tokenizer):
    policy = make_policy(model, libero(), STATS, tokenizer, subtask_style="instead")
    assert policy._writer.options == SubtaskOptions(every=1)


def test_weights_that_learnt_no_subtasks_are_not_asked_for_any(model, tokenizer):
    options = PolicyOptions(FlowSampler(num_steps=1), subtask=SubtaskOptions())
    for style, says in ((None, "did not learn"), ({}, "whether the language model writes subtasks")):
        said = {} if style == {} else {"subtask_style": style}
        with pytest.raises(ContractError, match=says):
            make_policy(model, libero(), STATS, tokenizer, options=options, **said)
    with pytest.raises(InputError, match=r"subtask\.every"):
        SubtaskOptions(every=0)
