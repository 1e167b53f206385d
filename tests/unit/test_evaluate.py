"""Closed-loop evaluation: seeds in lockstep, delays, what variants take away, intervals, exit statuses."""

import json
from dataclasses import replace

import numpy as np
import pytest

from pioxide.cli import main
from pioxide.contract import Contract
from pioxide.control import Request
from pioxide.errors import InputError
from pioxide.evaluate import (
    Adapter,
    EvaluationSettings,
    Reel,
    Variant,
    evaluate,
    find_task,
    scores,
    task_names,
    wilson,
)
from pioxide.evaluate.lane import Episode, LockstepWorker, Outcome
from pioxide.robots import so101
from support.oracle_policy import OraclePolicy, said


@pytest.fixture(scope="module")
def words() -> Adapter:
    return find_task("words")


def outcome(success: bool, kind: str = "", variant: Variant = Variant.PLAIN, seed: int = 0) -> Outcome:
    return Outcome(Episode(seed, variant), kind, success, 10, 0.0, 1.0, 0, 3, 0, 0)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Wilson's interval as R's binom.confint gives it.
    [(0, 10, 0.0, 0.27753), (8, 10, 0.49016, 0.94332), (10, 10, 0.72247, 1.0), (95, 100, 0.88825, 0.97846)],
)
def test_wilson_interval_is_the_published_one(successes, trials, low, high):
    assert wilson(successes, trials) == pytest.approx((low, high), abs=1e-5)


@pytest.mark.parametrize(("successes", "trials"), [(0, 0), (3, 2), (-1, 5)])
def test_an_interval_of_impossible_counts_is_refused(successes, trials):
    with pytest.raises(InputError, match="at least one trial"):
        wilson(successes, trials)


def test_scores_are_by_variant_and_by_kind_where_there_are_several():
    plain = [outcome(True, "named"), outcome(True, "named"), outcome(False, "lit")]
    blank = [outcome(False, "lit", Variant.BLANK)]
    found = [(s.variant, s.kind, s.successes, s.episodes) for s in scores(plain + blank)]
    assert found == [
        (Variant.PLAIN, "", 2, 3),
        (Variant.PLAIN, "lit", 0, 1),
        (Variant.PLAIN, "named", 2, 2),
        (Variant.BLANK, "", 0, 1),
    ]


def test_a_policy_that_remembers_is_shown_every_tick_and_told_when_it_is_asked(words):
    policy = OraclePolicy(words.robot)
    policy.hz, policy.remembers = words.hz, True
    sessions = []  # kept, so that no two have one number
    new_session = policy.new_session
    policy.new_session = lambda seed=0: sessions.append(new_session(seed)) or sessions[-1]
    made = evaluate(policy, words, EvaluationSettings(seeds=3, lanes=2, play=4))
    assert [policy.shown[id(one)] for one in sessions] == [list(range(o.steps)) for o in made.outcomes]
    for one, outcome in zip(sessions, made.outcomes, strict=True):
        assert policy.asked[id(one)] == list(range(0, outcome.steps, 4))


def test_what_is_taken_away_is_what_the_task_needs(words):
    policy = OraclePolicy(words.robot)
    made = evaluate(policy, words, EvaluationSettings(seeds=60), variants=list(Variant))
    rate = {(s.variant, s.kind): s.rate for s in made.scores}
    assert rate[Variant.PLAIN, ""] == 1.0
    assert rate[Variant.BLANK, "named"] == 1.0  # the words say it all
    assert rate[Variant.BLANK, "lit"] < 0.7  # one of three, where nothing tells which
    assert rate[Variant.EXCHANGED, ""] < 0.35
    assert max(policy.batches) == 32
    assert [o.episode.seed for o in made.outcomes if o.episode.variant is Variant.PLAIN] == list(
        range(1_000_000, 1_000_060)
    )


def test_an_episode_does_not_depend_on_how_many_run_beside_it(words):
    one = evaluate(OraclePolicy(words.robot), words, EvaluationSettings(seeds=6, lanes=1))
    many = evaluate(OraclePolicy(words.robot), words, EvaluationSettings(seeds=6, lanes=6))
    assert one.outcomes == many.outcomes


def test_one_kind_of_instruction_can_be_chosen(words):
    made = evaluate(OraclePolicy(words.robot), words, EvaluationSettings(seeds=6, kind="lit"))
    assert {one.kind for one in made.outcomes} == {"lit"}


def test_a_kind_that_the_task_has_not_is_refused(words):
    with pytest.raises(InputError, match="there is no kind 'sung'"):
        evaluate(OraclePolicy(words.robot), words, EvaluationSettings(seeds=1, kind="sung"))


def test_a_delay_is_kept_and_told_to_the_policy(words):
    policy = OraclePolicy(words.robot)
    made = evaluate(policy, words, EvaluationSettings(seeds=8, delay=4))
    assert made.overall.rate > 0.8  # straight lines bear a late answer
    assert set(policy.delays) == {0, 4}  # the first chunk is waited for
    assert policy.delays.count(0) == 8


def test_a_late_answer_waits_for_its_tick():
    worker = LockstepWorker(2)
    for first in (True, False):
        worker.start(Request({}, np.zeros((0, 2)), 0), 0.0)
        worker.answer(np.zeros((8, 2)))
        late = 0 if first else 2
        for _ in range(late):
            assert worker.collect() is None
            assert worker.busy
            worker.tick()
        assert worker.collect() is not None
        assert not worker.busy


def test_more_than_a_chunk_can_not_be_played():
    settings = EvaluationSettings(play=5, delay=4)
    with pytest.raises(InputError, match="more than the 8 actions"):
        settings.played(said(Contract()))


def test_half_a_chunk_is_played_where_nobody_says_more():
    assert EvaluationSettings().played(said(Contract())) == 4
    assert EvaluationSettings().played(said(Contract(play_steps=6))) == 6
    assert EvaluationSettings(play=2).played(said(Contract(play_steps=6))) == 2


@pytest.mark.parametrize("field", ["seeds", "lanes", "delay", "first_seed", "play"])
def test_a_number_out_of_its_range_is_named(field):
    with pytest.raises(InputError, match=field):
        EvaluationSettings(**{field: -1})


def test_a_policy_of_another_robot_is_refused(words):
    with pytest.raises(InputError, match="the policy is for so101"):
        evaluate(OraclePolicy(so101()), words, EvaluationSettings(seeds=1))


def test_words_can_not_be_exchanged_where_there_is_one_instruction():
    task = find_task("reach")
    with pytest.raises(InputError, match="one instruction"):
        task.changed({"task": task.instructions[0]}, Variant.EXCHANGED, 0)


def test_a_film_keeps_failures_before_successes_and_plain_ones_before_others():
    reel = Reel(2, size=4)
    for seed, (success, variant) in enumerate(
        [(True, Variant.PLAIN), (False, Variant.BLANK), (True, Variant.PLAIN), (False, Variant.PLAIN)]
    ):
        reel.add(outcome(success, variant=variant, seed=seed), [np.zeros((4, 4, 3), np.uint8)])
    assert [one.episode.seed for one, _ in reel.kept] == [3, 0]


def test_a_film_is_written_as_a_grid(tmp_path, words):
    import av

    reel = Reel(3, size=32)
    made = evaluate(OraclePolicy(words.robot), words, EvaluationSettings(seeds=4), reel=reel)
    reel.write(tmp_path / "film.mp4", words.hz)
    with av.open(str(tmp_path / "film.mp4")) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert frames[0].shape == (80, 80, 3)
    assert len(frames) == max(len(pictures) for _, pictures in reel.kept) + 10
    assert made.overall.rate == 1.0
    red, green, blue = frames[-1][2, 10].astype(int)
    assert green > red + 50
    assert green > blue + 50
    assert [file.name for file in tmp_path.iterdir()] == ["film.mp4"]


def test_tasks_are_found_by_name_and_by_function():
    assert find_task("push").robot.name == "tabletop"
    assert find_task("test_evaluate:a_task").name == "mine"
    assert {"reach", "words", "push", "pusht"} <= set(task_names())


def a_task() -> Adapter:
    return replace(find_task("reach"), name="mine")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("reech", "there is no task 'reech'"),
        ("nowhere:task", "nowhere"),
        ("test_evaluate:outcome_of", "outcome_of"),
        ("builtins:list", "expected a pioxide.evaluate.Adapter, got list"),
    ],
)
def test_a_task_that_is_none_is_refused(name, says):
    with pytest.raises(InputError, match=says):
        find_task(name)


def test_json_holds_every_episode(words):
    made = evaluate(OraclePolicy(words.robot), words, EvaluationSettings(seeds=3))
    document = json.loads(json.dumps(made.as_json(), allow_nan=False))
    assert document["scores"][0]["rate"] == 1.0
    assert [one["seed"] for one in document["episodes"]] == [1_000_000, 1_000_001, 1_000_002]


def test_eval_says_which_checkpoint_is_not_there(capsys, tmp_path):
    assert main.main(["eval", str(tmp_path / "nothing"), "--task", "reach"]) == main.YOUR_MISTAKE
    assert "nothing" in capsys.readouterr().err


def test_eval_refuses_what_can_not_be_taken_away(capsys, tmp_path):
    assert main.main(["eval", str(tmp_path), "--without", "sound"]) == main.YOUR_MISTAKE
    assert "expected some of blank, exchanged, got 'sound'" in capsys.readouterr().err
