"""What a person should know first, in sentences: the report's numbers judged, for terminal and page alike."""

from dataclasses import dataclass
from enum import Enum

import numpy as np

from pioxide.data import Code
from pioxide.data import Finding as DatasetFinding
from pioxide.report.digits import short
from pioxide.report.facts import JointRanges, Report

FAR = 3.0  # normalised values beyond this are worth a word: three times as far out as 98% of the data
ROUGH = 0.5  # a reconstruction error of a quarter of the range from q01 to q99


class Level(Enum):
    """How much a finding matters."""

    GOOD = "good"
    NOTE = "note"
    WARNING = "warning"


@dataclass(frozen=True)
class Finding:
    """One sentence and its weight."""

    level: Level
    text: str


def findings(report: Report) -> list[Finding]:
    """Judges a report; warnings come first."""
    found = [*_left_out(report), *_tokens(report), *_reconstruction(report), *_prompts(report)]
    if report.actions is not None:
        found += _ranges("actions", report.actions)
    if report.state is not None:
        found += _ranges("state", report.state)
    found += [Finding(Level.WARNING, f"In the dataset: {warning}.") for warning in _more(report)]
    order = [Level.WARNING, Level.NOTE, Level.GOOD]
    return sorted(found, key=lambda finding: order.index(finding.level))


def _more(report: Report) -> list[DatasetFinding]:
    """What `pioxide check` says of the dataset and the measured ranges don't."""
    known = {Code.STILL, Code.SELDOM} if report.actions is not None else set()
    return [warning for warning in report.warnings if warning.code not in known]


def _left_out(report: Report) -> list[Finding]:
    found = []
    if report.differing:
        rows = _count(report.differing, "row")
        text = f"{rows} hold other tokens than their frames give: the dataset has changed."
        found.append(Finding(Level.WARNING, text))
    if report.missing:
        found.append(Finding(Level.NOTE, report.missing))
    if not report.skipped:
        return found
    episodes = [str(episode) for episode, _ in report.skipped]
    named = ", ".join(episodes[:8]) + (", …" if len(episodes) > 8 else "")
    return [Finding(Level.WARNING, f"{_count(len(episodes), 'episode')} left out: {named}."), *found]


def _tokens(report: Report) -> list[Finding]:
    tokens = report.tokens
    if tokens is None or report.compression is None or report.bit_compression is None:
        return []
    found = [
        Finding(
            Level.GOOD,
            f"A chunk takes {tokens.per_chunk.mean():.0f} tokens on average, not {report.naive_tokens:,}: "
            f"{report.compression:.1f} times fewer ({report.bit_compression:.1f} in bits).",
        )
    ]
    if tokens.clipped_chunks:
        share = tokens.clipped_chunks / tokens.chunks
        found.append(
            Finding(
                Level.WARNING,
                f"{_count(tokens.clipped_coefficients, 'coefficient')} of "
                f"{_count(tokens.clipped_chunks, 'chunk')} ({share:.2%}) clipped to what has a token.",
            )
        )
    else:
        found.append(Finding(Level.GOOD, "The vocabulary represents every chunk: nothing was clipped."))
    return found


def _reconstruction(report: Report) -> list[Finding]:
    errors = report.reconstruction
    if errors is None:
        return []
    worst = int(np.argmax(errors.worst))
    names = report.source.joints
    text = (
        f"Decoded actions are {short(errors.overall_rms)} RMS off (normalised); the largest error is "
        f"{short(errors.worst[worst])} at {names[worst]}, "
        f"{short(errors.worst[worst] * errors.unit[worst])} in the robot's units."
    )
    return [Finding(Level.WARNING if errors.worst[worst] > ROUGH else Level.GOOD, text)]


def _prompts(report: Report) -> list[Finding]:
    prompts = report.prompts
    if prompts is None or not len(prompts.lengths):
        return []
    longest = int(prompts.lengths.max())
    if prompts.truncated:
        share = prompts.truncated / len(prompts.lengths)
        lost = (
            "the end of the action tokens" if report.source.model == "pi0_fast" else "the end of the prompt"
        )
        if report.tokens is not None and report.tokens.lost:
            lost += f", and of {report.tokens.lost:,} all of them"
        return [
            Finding(
                Level.WARNING,
                f"{_count(prompts.truncated, 'prompt')} ({share:.2%}) cut at {prompts.max_len} tokens, "
                f"which loses {lost}; --max-len {longest} holds them all (a new directory; train with that "
                "length too).",
            )
        ]
    return [
        Finding(Level.GOOD, f"No prompt was cut: the longest takes {longest} of {prompts.max_len} tokens.")
    ]


def _ranges(quantity: str, joints: JointRanges) -> list[Finding]:
    found = []
    if (still := np.flatnonzero(joints.constant)).size:
        found.append(
            Finding(
                Level.NOTE,
                f"{_names(joints, still)} never {_verb(still, 'moves', 'move')} in the {quantity}.",
            )
        )
    if (stuck := np.flatnonzero(joints.degenerate)).size:
        found.append(
            Finding(
                Level.WARNING,
                f"{_names(joints, stuck)} in the {quantity} {_verb(stuck, 'moves', 'move')} so seldom that "
                "q01 equals q99, and quantile normalisation blows these moves up.",
            )
        )
    far = np.flatnonzero((joints.reach > FAR) & ~joints.constant & ~joints.degenerate)
    if far.size:
        top = int(far[np.argmax(joints.reach[far])])
        found.append(
            Finding(
                Level.NOTE,
                f"{_names(joints, far)} in the {quantity} {_verb(far, 'goes', 'go')} beyond {FAR:g} after "
                f"normalisation by quantiles, {joints.names[top]} as far as {joints.reach[top]:.1f}.",
            )
        )
    return found


def _names(joints: JointRanges, indices: np.ndarray) -> str:
    if len(indices) > 3:
        return f"{len(indices)} joints ({joints.names[indices[0]]}, {joints.names[indices[1]]}, …)"
    return ", ".join(joints.names[i] for i in indices)


def _verb(indices: np.ndarray, one: str, many: str) -> str:
    return one if len(indices) == 1 else many


def _count(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"
