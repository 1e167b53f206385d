"""Codecs compared: what the context model says of sources whose entropy is known, and what is recommended."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pioxide.cli.main import main
from pioxide.codec import BinningCodec, FastCodec
from pioxide.errors import InputError
from pioxide.shards import ExploreSettings, FitSettings, explore
from pioxide.shards.codecs import BeastOptions, BinningOptions, FastOptions
from pioxide.shards.predict import TokenText, bits_per_chunk
from pioxide.shards.recommend import recommend
from pioxide.shards.trials import Trial, codecs_to_try, token_text
from support.datasets import episodes, write_v3

CHUNKS, TOKENS = 1500, 60


def text(ids, vocab, *, dim=3, numeric=False, state=None):
    count, length = ids.shape
    offsets = np.arange(count + 1) * length
    ones = np.ones(ids.size, np.int64)
    return TokenText(ids.reshape(-1).astype(np.int64), offsets, ones, vocab, dim, numeric, state)


def bits_a_token(source: TokenText) -> float:
    parts = source.taken(0, 1000), source.taken(1000, 1250), source.taken(1250, CHUNKS)
    return float(bits_per_chunk(*parts).mean() / TOKENS)


def entropy(p):
    p = np.asarray(p)[np.asarray(p) > 0]
    return float(-(p * np.log2(p)).sum())


@pytest.mark.parametrize("numeric", [False, True])
@pytest.mark.parametrize("p", [[0.5, 0.25, 0.125, 0.125], [0.25] * 4, [0.9, 0.05, 0.03, 0.02]])
def test_independent_tokens_take_their_entropy(p, numeric):
    ids = np.random.default_rng(0).choice(4, (CHUNKS, TOKENS), p=p)
    found = bits_a_token(text(ids, 4, numeric=numeric))
    # Never below by more than chance, and little above.
    assert entropy(p) * 0.97 < found < entropy(p) * 1.03 + 0.01


@pytest.mark.parametrize("numeric", [False, True])
def test_what_follows_from_the_token_before_takes_next_to_nothing(numeric):
    first = np.random.default_rng(0).integers(16, size=(CHUNKS, 1))
    found = bits_a_token(text((first + np.arange(TOKENS) * 5) % 16, 16, numeric=numeric))
    assert found < 4 / TOKENS + 0.05


def test_bits_fall_as_a_source_becomes_predictable():
    rng = np.random.default_rng(0)
    found = []
    for sure in (0.0, 0.5, 0.9, 1.0):
        ids = rng.integers(8, size=(CHUNKS, TOKENS))
        for i in range(1, TOKENS):
            follows = rng.random(CHUNKS) < sure
            ids[follows, i] = (ids[follows, i - 1] + 1) % 8
        found.append(bits_a_token(text(ids, 8)))
        q = sure + (1 - sure) / 8
        expected = entropy([q, *[(1 - sure) / 8] * 7])
        assert found[-1] == pytest.approx(expected, rel=0.05, abs=0.08)
    assert found == sorted(found, reverse=True)


def test_what_stands_in_the_same_joint_a_row_earlier_is_used():
    rng = np.random.default_rng(0)
    rows = rng.integers(64, size=(CHUNKS, 3))
    ids = np.tile(rows, TOKENS // 3)
    assert bits_a_token(text(ids, 64)) < 18 / TOKENS + 0.1


def test_numbers_are_forecast_where_counts_alone_are_lost():
    """A random walk over many bins: a transition is hardly ever seen twice, but its size is."""
    rng = np.random.default_rng(0)
    steps = rng.integers(-1, 2, size=(CHUNKS, TOKENS // 3, 3))
    walk = rng.integers(2000, 18_000, size=(CHUNKS, 1, 3)) + np.cumsum(steps, axis=1)
    ids = walk.reshape(CHUNKS, -1)
    known = bits_a_token(text(ids, 20_000, numeric=True))
    # Three steps are equally likely; only the first row is a surprise.
    surprise = 3 * np.log2(20_000) / TOKENS
    assert known < (np.log2(3) * (TOKENS - 3) / TOKENS + surprise) * 1.08
    assert known < bits_a_token(text(ids, 20_000)) / 2


def test_the_state_helps_where_actions_follow_from_it():
    rng = np.random.default_rng(0)
    state = rng.uniform(-1, 1, (CHUNKS, 3))
    level = np.rint((state + 1) * 100).astype(int)
    ids = np.tile(level + rng.integers(-1, 2, (CHUNKS, 3)), TOKENS // 3)
    told, blind = (bits_a_token(text(ids, 210, numeric=True, state=s)) for s in (state, None))
    assert told < blind - 3 * 3 / TOKENS


def test_tokens_of_several_coefficients_are_placed_where_they_begin():
    chunks = np.cumsum(np.random.default_rng(0).normal(0, 0.1, (60, 8, 3)), axis=1)
    for codec in (FastCodec.fit(chunks, vocab_size=400), BinningCodec(limit=3.0)):
        made = token_text(codec, codec.encode_batch(chunks), 3, None)
        sums = np.add.reduceat(made.begins, made.offsets[:-1])
        assert (sums == 8 * 3).all()


# The whole


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Long enough that half of the episodes says something of the other half."""
    return write_v3(tmp_path_factory.mktemp("explore") / "v3", episodes((60,) * 12), rows_per_file=1000)


SETTINGS = FitSettings(horizon=8, held_out=0.25)
HOW = ExploreSettings(train_chunks=300, judge_chunks=100, max_error=0.05)
FEW = [FastOptions(300, 5.0), FastOptions(300, 20.0), BinningOptions(64, 4.0), BeastOptions(4, 1, 64)]


@pytest.fixture(scope="module")
def found(dataset):
    return explore(dataset, SETTINGS, HOW, codecs=FEW)


def test_every_codec_is_measured_on_episodes_that_nothing_was_fitted_on(found):
    drawn = found.drawn["episodes"]
    assert not set(drawn["judge"]) & {*drawn["train"], *drawn["tune"]}
    assert not set(drawn["tune"]) & set(drawn["train"])
    assert [trial.options for trial in found.trials] == [str(one) for one in FEW]
    coarse, fine, binning, beast = found.trials
    assert coarse.rms > fine.rms
    assert coarse.bits < fine.bits
    assert binning.tokens["mean"] == 8 * 3
    assert beast.tokens["mean"] == 4 * 3
    for trial in found.trials:
        assert 0 < trial.bits < trial.tokens["mean"] * 12
        assert trial.changed_by_actions <= trial.tokens["max"]
        assert trial.changed_by_state == 0, "absolute actions don't move with the state"


def test_relative_actions_change_with_the_state(dataset):
    relative = replace(SETTINGS, delta_mask=(3,))
    (trial,) = explore(dataset, relative, HOW, codecs=[BinningOptions(256, 8.0)]).trials
    assert trial.changed_by_state > 0


def test_the_same_seed_finds_the_same(dataset, found):
    again = explore(dataset, SETTINGS, HOW, codecs=FEW)
    for one, two in zip(found.trials, again.trials, strict=True):
        assert replace(one, seconds=0) == replace(two, seconds=0)
    assert again.recommendation == found.recommendation


def test_what_can_not_be_explored_is_refused(tmp_path, dataset):
    with pytest.raises(InputError, match=r"--scale says how one codec is made"):
        explore(dataset, replace(SETTINGS, scale=20.0), HOW)
    few = write_v3(tmp_path / "few", episodes((30, 30)))
    with pytest.raises(InputError, match="needs three episodes at least"):
        explore(few, SETTINGS, HOW)
    with pytest.raises(InputError, match="max_error: expected a number above 0"):
        ExploreSettings(max_error=0.0)


@pytest.mark.parametrize("horizon", [1, 2, 5, 50])
def test_codecs_are_tried_that_can_be_made_at_any_horizon(horizon):
    chunks = np.cumsum(np.random.default_rng(0).normal(0, 0.1, (80, horizon, 2)), axis=1)
    for options in codecs_to_try(chunks):
        codec = options.fit(chunks)
        assert codec.encode_batch(chunks, on_overflow="clip").lengths.min() >= 1


# The recommendation


def trial(codec, bits, tokens, rms, clipped=0.0):
    counts = {"mean": tokens, "p50": tokens, "p99": tokens * 1.2, "max": tokens * 2}
    name = f"--codec {codec} {bits}"
    return Trial(
        codec, name, f"{codec} of {bits}", counts, bits, 1.0, rms, rms * 5, [], clipped, 1.0, 0.0, 0.1
    )


def test_the_easiest_to_predict_of_the_accurate_ones_is_recommended():
    trials = [
        trial("fast", 300.0, 60, 0.03),  # not accurate
        trial("fast", 500.0, 90, 0.015),
        trial("fast", 520.0, 70, 0.014),  # as good, and shorter
        trial("beast", 700.0, 130, 0.01),
        trial("binning", 400.0, 1300, 0.01),  # too long
        trial("beast", 310.0, 80, 0.01, clipped=0.2),
    ]
    found = recommend(trials, max_error=0.02, max_tokens=256)
    assert (found.options, found.suits) == ("--codec fast 520.0", True)
    assert any("1.3 times the bits" in reason for reason in found.reasons)
    assert any(
        "binning of 400.0 does not suit: chunks take 1,560 tokens" in reason for reason in found.reasons
    )


def test_where_none_suits_the_nearest_is_named_with_what_it_lacks():
    found = recommend(
        [trial("fast", 300.0, 60, 0.05), trial("beast", 300.0, 60, 0.03)], max_error=0.02, max_tokens=99
    )
    assert (found.options, found.suits) == ("--codec beast 300.0", False)
    assert "its error of 0.0300 is above 0.02" in found.reasons[0]


# The command


def test_the_command_prints_and_keeps_what_it_found(dataset, tmp_path, capsys):
    options = [
        "--explore",
        "--horizon",
        "8",
        "--train-chunks",
        "100",
        "--judge-chunks",
        "50",
        "--held-out",
        "0.3",
    ]
    assert main(["fit", str(dataset), "-o", str(tmp_path / "out"), *options]) == 0
    printed = capsys.readouterr()
    assert "next: pioxide fit" in printed.out
    assert "of" in printed.err
    kept = json.loads((tmp_path / "out" / "explore.json").read_text())
    page = (tmp_path / "out" / "explore.html").read_text()
    assert kept["recommendation"]["options"] in printed.out
    assert kept["recommendation"]["options"] in page
    assert "<svg" in page
    for one in kept["trials"]:
        assert one["label"] in page
    assert main(["fit", str(dataset), "-o", str(tmp_path / "out"), *options]) != 0
    assert "exists; choose another directory" in capsys.readouterr().err
    # For programs, the same as one event.
    assert main(["fit", str(dataset), "-o", str(tmp_path / "again"), *options, "--json"]) == 0
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert kept["recommendation"] in [e.get("result", e).get("recommendation") for e in events]
    # What it recommends is what `fit` takes.
    words = kept["recommendation"]["options"].split()
    assert main(["fit", str(dataset), "-o", str(tmp_path / "fitted"), "--horizon", "8", *words]) == 0


def test_options_of_exploring_are_refused_without_it(dataset, tmp_path, capsys):
    assert main(["fit", str(dataset), "-o", str(tmp_path / "out"), "--max-error", "0.1"]) != 0
    assert "--max-error belongs to --explore" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
