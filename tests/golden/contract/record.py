"""Records what `pioxide.contract` reads, computes and refuses, for Rust to do the same; run by hand."""

import copy
import json
from dataclasses import replace
from pathlib import Path

import numpy as np

from pioxide.codec import Advantage, FastCodec, TextTokenizer, with_advantage
from pioxide.contract import (
    CameraSlot,
    CodecVocabulary,
    Contract,
    Memory,
    action_vocabulary,
    from_json,
    make_prompts,
    to_json,
)
from pioxide.contract.numbers import Numbers
from pioxide.demo import text_model_path
from pioxide.errors import FormatError, PioxideError
from pioxide.files import parse_json
from pioxide.robots import LinearGripper, RobotSpec, StatePart, aloha, droid, so101
from pioxide.transforms import NormRule, Stats, make_mask

HORIZON = 4
TASKS = ("Fold the towel", " put_the\nBALL away ", "世界")


def codec() -> FastCodec:
    values = 0.8 * np.sin(np.arange(12 * 16 * 3).reshape(12, 16, 3) / 7.0)
    return FastCodec.fit(list(values), vocab_size=300, scale=0.1 + 0.2)


def contracts() -> dict[str, Contract]:
    rng = np.random.default_rng(5)

    def stats(dim: int, width: int | None = None) -> Stats:
        low, span = rng.normal(0, 1, dim), rng.uniform(0.1, 3, dim)
        span[-1] = 0.0  # a joint that never moved
        vectors = {
            "mean": low + span / 3,
            "std": span / 5,
            "q01": low,
            "q99": low + span,
            "min": low - 0.1 * span,
            "max": low + 1.1 * span,
            "q10": low + 0.1 * span,
            "q90": low + 0.9 * span,
        }
        return Stats(**{k: np.pad(v, (0, (width or dim) - dim)) for k, v in vectors.items()})

    base = Contract(
        family="pi05",
        robot=so101(),
        cameras=(
            CameraSlot("base_0_rgb", "observation.images.front"),
            CameraSlot("left_wrist_0_rgb", None, False),
        ),
        absent_camera="masked",
        delta_mask=make_mask(5, -1),
        state_norm=NormRule.openpi("quantile"),
        action_norm=NormRule.openpi("quantile"),
        norm_stats={"state": stats(6), "actions": stats(6)},
        state_in_text=True,
        state_text_dim=None,
        prompt_style="openpi",
        text_len=200,
        default_prompt="fold",
        action_horizon=HORIZON,
        model_dim=32,
        num_steps=10,
        play_steps=None,
        image_size=224,
        resize="antialias",
        fast=None,
        max_delay=0,
        answer_gap=0,
        subtask_style=None,
        advantage_style=None,
        memory=None,
        source="recorded",
    )  # fmt: skip
    linear = RobotSpec(
        "linear",
        (),
        (StatePart("joints", 3), StatePart("hand", 1)),
        3,
        hz=None,
        grippers={2: LinearGripper((0.085, 0.0), (1, -3))},
        joint_names=("a", "b", "c"),
        state_names=("a", "b", "c", "d"),
        joint_units=("rad", "rad", ""),
    )
    few = {"robot": linear, "norm_stats": {"state": stats(4, 32), "actions": stats(3, 32)}}
    rules = {
        "min_max": NormRule.lerobot("min_max"),
        "mean_std": NormRule.lerobot("mean_std", 1e-3),
        "quantiles": NormRule.lerobot("quantiles"),
        "quantile10": NormRule.lerobot("quantile10"),
        "identity": NormRule.openpi("identity"),
    }
    found = {
        "π0.5 with quantiles and relative actions": base,
        "π0 on ALOHA with z-scores": replace(
            base,
            family="pi0",
            robot=aloha(),
            delta_mask=make_mask(6, -1, 6, -1),
            state_norm=NormRule.openpi("zscore"),
            action_norm=NormRule.openpi("zscore"),
            norm_stats={"state": stats(14), "actions": stats(14)},
            state_in_text=False,
        ),
        "π0-FAST": replace(
            base,
            family="pi0_fast",
            robot=replace(droid(), joint_names=(), state_names=(), joint_units=()),
            delta_mask=(),
            norm_stats={"state": stats(8), "actions": stats(8)},
            num_steps=None,
            fast=action_vocabulary(codec()),
            answer_gap=1,
        ),
        "π0.5 without a state": replace(
            base,
            state_in_text=False,
            default_prompt=None,
            subtask_style="instead",
            memory=Memory(frames=6, stride=0.5),
        ),
        "π0 with an advantage": replace(
            base, family="pi0", state_in_text=False, prompt_style="lerobot", advantage_style="text_or_none"
        ),
        "π0.5 with an advantage": replace(base, advantage_style="text"),
        "another codec": replace(
            base,
            **few,
            family="pi0_fast",
            delta_mask=(True, False, True),
            prompt_style="lerobot",
            state_text_dim=7,
            fast=CodecVocabulary("binning", "ab" * 32, 256, HORIZON, 3),
        ),
    }
    for name, rule in rules.items():
        found[f"LeRobot's {name}"] = replace(
            base, **few, delta_mask=(True,), state_norm=rule, action_norm=rule, prompt_style="lerobot"
        )
    return found


def numbers(contract: Contract) -> dict:
    computed = Numbers.of(contract)
    rng = np.random.default_rng(6)
    s, d = computed.robot.state_dim, computed.robot.action_dim
    states = [rng.normal(0, 1, s), rng.uniform(0, 1, s).astype(np.float32), np.full(s, -0.0)]
    found = []
    for state in states:
        actions = rng.normal(0, 1, (HORIZON, d)).astype(state.dtype)
        answer = np.clip(rng.normal(0, 1, (HORIZON, d + 2)), -1.2, 1.2).astype(state.dtype)
        answer[0] = -0.0
        given = {"state": state, "actions": actions, "answer": answer}
        given |= {
            "normalised_state": computed.apply_state(state),
            "normalised_actions": computed.apply_actions(actions, state),
            "robot_actions": computed.invert_actions(answer, state),
        }
        found.append(
            {"single": state.dtype == np.float32, **{k: v.ravel().tolist() for k, v in given.items()}}
        )
    return {"action_dim": d, "calls": found}


def prompts(contract: Contract, tokenizer: TextTokenizer) -> list:
    made = make_prompts(contract, tokenizer, codec() if contract.family == "pi0_fast" else None)
    state = np.linspace(-1.1, 1.1, contract.robot.state_dim)
    stated = contract.state_in_text
    tasks = [with_advantage(one, Advantage.POSITIVE if contract.advantage_style else None) for one in TASKS]
    rows = [made.encode(task, state) if stated else made.encode(task) for task in tasks]
    return [row.tokens[: row.length].tolist() for row in rows]


def spoilt() -> list:
    """Changes of the first case's document that make it be refused, and why in a word."""
    good = to_json(contracts()["π0.5 with quantiles and relative actions"])
    changes = [
        ("version", "version", 2),
        ("version", "version", None),
        ("unknown", "unknown", ["famly"]),
        ("family", "unknown", ["family"]),
        ("family", "family", "pi1"),
        ("colour", "colour", 1),
        ("text_len", "text_len", 0),
        ("text_len", "text_len", True),
        ("text_len", "text_len", 2.0),
        ("max_delay", "max_delay", -1),
        ("answer_gap", "answer_gap", 2),
        ("subtask_style", "subtask_style", "beside"),
        ("advantage_style", "advantage_style", True),
        ("memory", "memory", {"frames": 1, "stride": 1.0, "every": 4}),
        ("memory", "memory", {"frames": 6, "stride": 0, "every": 4}),
        ("memory", "memory", {"frames": 6, "stride": 1.0}),
        ("state_in_text", "state_in_text", 1),
        ("default_prompt", "default_prompt", 3),
        ("prompt_style", "prompt_style", "other"),
        ("delta_mask", "delta_mask", [True]),
        ("cameras", "cameras", [{"slot": "a", "required": True}] * 2),
        ("state_norm", "state_norm", {"mode": "min_max", "arithmetic": "openpi", "epsilon": 1e-6}),
        ("state_norm", "state_norm", {"mode": "mean_std", "arithmetic": "openpi", "epsilon": 0}),
        ("std", ("norm_stats", "state", "std"), [-1.0] * 6),
        ("q01", ("norm_stats", "state", "q01"), [9.0] * 6),
        ("mean", ("norm_stats", "actions", "mean"), [0.0]),
        ("mean", ("norm_stats", "actions", "mean"), ["a"] * 6),
        ("median", ("norm_stats", "actions", "median"), [0.0] * 6),
        ("name", ("robot", "name"), ""),
        ("hz", ("robot", "hz"), 0),
        ("state", ("robot", "state"), {}),
        ("signs", ("robot", "signs"), [1]),
        ("signs", ("robot", "signs"), [2] * 6),
        ("gripper", ("robot", "grippers"), {"6": "aloha"}),
        ("gripper", ("robot", "grippers"), {"5": {"measured": [1, 1]}}),
        ("gripper", ("robot", "grippers"), {"x": "aloha"}),
        ("joint_names", ("robot", "joint_names"), ["a"]),
        ("twice", ("robot", "prompt_key"), "observation.state"),
        ("speed", ("robot", "speed"), 1),
    ]  # fmt: skip
    found = []
    for word, place, value in changes:
        document = copy.deepcopy(good)
        path = (place,) if isinstance(place, str) else place
        inner = document
        for name in path[:-1]:
            inner = inner[name]
        inner[path[-1]] = value
        try:
            from_json(document)
        except PioxideError:
            found.append({"word": word, "place": path, "value": value})
        else:
            raise AssertionError(f"{place} = {value!r} is read")
    return found


# What is put in the place of each value, as JSON's text: "" takes the field out.
PALETTE = (
    "", "null", "true", "false", "0", "1", "-1", "2", "33", "1.0", "2.0", "-0.5", "0.25", "1e300",
    "1e999", "NaN", "4294967297", "36893488147419103232", '""', '"a"', '"pi0"', '"PI0.5"', '"none"',
    '"masked"', '"black"', '"openpi"', '"lerobot"', '"min_max"', '"aloha"', '"text"', "[]", "[1]",
    "[true]", '["a"]', "[null]", "[[1]]", "1" + "0" * 400, "{}", '{"a":1}', '{"a":"b"}',
    '{"a":1,"a":1}', '{"0":"aloha"}', '{"0":"aloha","00":"aloha"}', '{"٠":"aloha"}',
    '{"measured":[0,1]}',
)  # fmt: skip
# Of which cases what is spoilt: what stands below these fields, or all.
SPOILT = {
    "π0.5 with quantiles and relative actions": None,
    "another codec": ("robot", "fast"),
    "π0-FAST": ("robot", "fast", "family", "num_steps"),
    "π0.5 without a state": ("memory", "family", "absent_camera", "default_prompt"),
}


def places(value, path=()) -> list:
    """Every place of a document in which something can stand, that of a foreign field of each object too."""
    if isinstance(value, dict):
        below = [place for name, one in value.items() for place in places(one, (*path, name))]
        return [path, *below, (*path, "colour")] if path else [*below, ("colour",)]
    if isinstance(value, list):  # its first item is as good as the others
        return [path, *(places(value[0], (*path, 0)) if value else ())]
    return [path]


def with_texts(document: dict, spoilt: list) -> str:
    """A document's text with other texts in some places, none of which lies below another."""
    document, texts = copy.deepcopy(document), {}
    for number, (place, text) in enumerate(spoilt):
        inner = document
        for name in place[:-1]:
            inner = inner[name]
        if text:
            inner[place[-1]] = f"\0{number}"
            texts[json.dumps(f"\0{number}")] = text
        elif isinstance(inner, list) or place[-1] in inner:
            del inner[place[-1]]
    written = json.dumps(document)
    for mark, text in texts.items():
        written = written.replace(mark, text)
    return written


def verdict(text: str) -> str:
    try:
        from_json(parse_json(text, "contract.json"))
    except FormatError:
        return "-"
    return "+"


def verdicts() -> dict:
    """Whether a document is read with each text of the palette in each place, and with two such changes that
    are each read alone."""
    rng = np.random.default_rng(7)
    alone, pairs = [], []
    for name, fields in SPOILT.items():
        document = to_json(contracts()[name])
        read = []
        for place in places(document):
            if (fields is None or place[0] in fields) and place[:2] != ("norm_stats", "actions"):
                said = "".join(verdict(with_texts(document, [(place, text)])) for text in PALETTE)
                alone.append({"case": name, "place": place, "read": said})
                read += [
                    (place, at) for at, one in enumerate(said) if one == "+" and place[-1:] != ("unknown",)
                ]
        for one, other in rng.integers(len(read), size=(150, 2)):
            (first, _), (second, _) = two = read[one], read[other]
            shorter = min(len(first), len(second))
            if first[:shorter] == second[:shorter]:
                continue
            said = verdict(with_texts(document, [(place, PALETTE[at]) for place, at in two]))
            pairs.append({"case": name, "spoilt": two, "read": said})
    return {"palette": PALETTE, "alone": alone, "pairs": pairs}


def record() -> dict:
    tokenizer = TextTokenizer.load(text_model_path())
    cases = [
        {
            "name": name,
            "document": to_json(contract),
            "numbers": numbers(contract),
            "prompts": prompts(contract, tokenizer),
        }
        for name, contract in contracts().items()
    ]
    return {
        "tasks": TASKS,
        "fingerprint": codec().fingerprint,
        "cases": cases,
        "refused": spoilt(),
        "verdicts": verdicts(),
    }


if __name__ == "__main__":
    Path(__file__).with_name("contract.json").write_text(
        json.dumps(record(), ensure_ascii=False, separators=(",", ":")) + "\n"
    )
