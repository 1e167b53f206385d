"""How joints move in single episodes beside the others: part of `data.checks`, from its summaries.

What one episode does is judged by what most do, so that grippers that snap shut and arms that rest in
every episode pass.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from pioxide.data.findings import Code, Finding, Quantity, Spot, numbers
from pioxide.data.joints import MOST, UNITS, Joints, is_gripper
from pioxide.data.summary import ColumnSummary, EpisodeSummary, Floats

# A step from frame to frame is a jump from this share of the joint's q01..q99 on, where it is also this many
# times the largest step of the usual episode.
JUMP, UNUSUAL = 0.5, 5.0
# Steps this close to a whole turn, in radians or degrees, are angles that wrap round.
TURNS = (2 * np.pi, 360.0)
TURN_TOLERANCE = 0.05
# A stretch without any motion between two with it counts from one second, and from so many frames on.
FROZEN_SECONDS, FROZEN_FRAMES = 1.0, 15
# A joint that stands still in at most this share of the episodes, each of at least so many frames.
STILL_SHARE, STILL_FRAMES = 0.2, 30
# Correlation of actions with states where they follow, and where they don't.
FOLLOWS, FOLLOWS_NOT = 0.9, 0.3
# A joint whose place differs between earlier and later episodes by so many of its spreads.
SHIFT, SHIFT_EPISODES = 3.0, 10
# A joint that is at its smallest or largest value in more than this share of the frames.
AT_LIMIT = 0.5
# Episodes whose mean positions differ by less than this share of the whole range.
ALIKE = 0.02
# Episodes whose beginnings, means and extremes differ by less than this share of the range are the same.
SAME = 1e-3


def jumps(joints: Joints) -> list[Finding]:
    """Steps from one frame to the next that are far larger than in the other episodes."""
    found: list[Finding] = []
    if len(joints.parts) < 3:
        return found
    jump = np.array([part.jump for _, _, part in joints.parts])
    usual = np.median(jump, axis=0)
    width = np.where(joints.width > 0, joints.width, np.inf)
    turn = np.min([np.abs(jump / whole - 1) for whole in TURNS], axis=0) < TURN_TOLERANCE
    turn &= (joints.high.max(axis=0) - joints.low.min(axis=0)) < 1.1 * jump
    odd = (jump > JUMP * width) & ((jump > UNUSUAL * usual) | turn) & ~joints.stuck & ~joints.outlying
    worst = np.where(odd, jump / width, 0)
    # Joints that jump in the same frame of an episode have one cause.
    together: dict[tuple[int, int, bool], list[int]] = {}
    for joint in sorted(_some(np.any(odd, axis=0), None), key=lambda joint: -worst[:, joint].max()):
        row = int(np.argmax(worst[:, joint]))
        at = row, int(joints.parts[row][2].jump_at[joint]), bool(turn[row, joint])
        together.setdefault(at, []).append(joint)
    for (row, frame, turns), those in list(together.items())[:MOST]:
        index, first = joints.indices[row], those[0]
        hit = tuple(i for i, much in zip(joints.indices, odd[:, those].any(axis=1), strict=True) if much)
        message = f"moves by {jump[row, first]:.4g} from one frame to the next"
        if turns:
            message += ", a whole turn: the angle wraps round at its end"
            way_out = "unwrap the angle"
        else:
            message += f", elsewhere by {usual[first]:.2g} at most"
            way_out = "look for a lost packet or a missing stretch there; leave the episode out, or mend it"
        more = f" ({numbers(hit, 'episode')})" if len(hit) > 1 else ""
        place = f"episode {index}, frame {frame}, {joints.place(those)}"
        spot = joints.spot(first, index, frame)
        found.append(Finding(Code.JUMP, place, message + more, way_out, hit, spot))
    return found


def frozen(joints: Joints, fps: float) -> list[Finding]:
    """Stretches in the middle of an episode where no joint moves by the smallest amount."""
    least = max(FROZEN_FRAMES, int(FROZEN_SECONDS * fps))
    hit = [(index, part) for index, _, part in joints.parts if part.frozen >= least]
    if not hit:
        return []
    index, worst = max(hit, key=lambda item: item[1].frozen)
    message = f"nothing of the {joints.quantity.value} moves in {worst.frozen} frames"
    if len(hit) > 1:
        message += f", the longest stretch in {numbers([i for i, _ in hit], 'episode')}"
    way_out = "the recording stood still, or the robot did: leave the stretch out (pioxide idle, --frames)"
    place = f"episode {index}, frame {worst.frozen_at}"
    spot = Spot(joints.quantity, None, index, worst.frozen_at)
    return [Finding(Code.FROZEN, place, message, way_out, tuple(i for i, _ in hit), spot)]


def still_once(joints: Joints) -> list[Finding]:
    """Joints of the state that stand still in an episode, and move in the others."""
    found: list[Finding] = []
    still = joints.low == joints.high  # [episodes, D]
    lengths = np.array([length for _, length, _ in joints.parts])
    still &= (lengths >= STILL_FRAMES)[:, None] & ~still.all(axis=1, keepdims=True)
    share = still.mean(axis=0)
    for joint in _some((share > 0) & (share <= STILL_SHARE) & ~joints.stuck):
        indices = tuple(i for i, hit in zip(joints.indices, still[:, joint], strict=True) if hit)
        message = f"{joints.place([joint])} does not move, and does in the others"
        way_out = "a motor or sensor that was off: leave the episode out"
        spot = joints.spot(joint, indices[0])
        place = numbers(indices, "episode")
        found.append(Finding(Code.STILL_ONCE, place, message, way_out, indices, spot))
    return found


def at_limit(joints: Joints) -> list[Finding]:
    """Joints that are mostly at one end of their range, grippers apart."""
    found: list[Finding] = []
    for joint in _some((joints.share > AT_LIMIT) & ~joints.stuck & ~joints.constant, None):
        ends = joints.low.min(axis=0)[joint], joints.high.max(axis=0)[joint]
        if joints.common[joint] not in ends or is_gripper(joints.names[joint]):
            continue
        end = "smallest" if joints.common[joint] == ends[0] else "largest"
        message = (
            f"is at its {end} value, {joints.common[joint]:g}, in {joints.share[joint]:.0%} of the frames"
        )
        way_out = "it was clipped, or stands at its stop"
        found.append(Finding(Code.LIMIT, joints.place([joint]), message, way_out, (), joints.spot(joint)))
    return found[:MOST]


def shifted(joints: Joints) -> list[Finding]:
    """Joints that are elsewhere from one episode on: another zero, another camera rig, another table."""
    found: list[Finding] = []
    number = len(joints.parts)
    if number < SHIFT_EPISODES:
        return found
    means = np.array([part.mean for _, _, part in joints.parts])
    lengths = np.array([length for _, length, _ in joints.parts])
    spread = np.sqrt(np.median([part.squares for _, _, part in joints.parts] / lengths[:, None], axis=0))
    moves = spread > 0.03 * np.where(joints.width > 0, joints.width, np.inf)
    cuts = np.arange(3, number - 2)
    clear, gap = _apart(means, cuts)
    score = np.where(clear > 0.5 * gap, gap / np.where(spread > 0, spread, np.inf), 0)
    best, since = score.max(axis=0), cuts[score.argmax(axis=0)]
    for joint in _some((best > SHIFT) & moves & ~joints.stuck):
        cut = int(since[joint])
        before, after = np.median(means[:cut, joint]), np.median(means[cut:, joint])
        message = f"is about {after:.3g} on average, and {before:.3g} before"
        way_out = "look for another zero or calibration; convert these episodes, or leave them out"
        place = f"from episode {joints.indices[cut]} on, {joints.place([joint])}"
        indices = tuple(joints.indices[cut:])
        found.append(Finding(Code.SHIFTED, place, message, way_out, indices, joints.spot(joint)))
    return found


def _apart(means: Floats, cuts: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """How far all episodes from a cut on lie clear of all before it, and how far their medians are apart.

    Args:
        means: [N, D] of each episode.
        cuts: [C] the first episode after each.

    Returns:
        [C, D] each; the second means something only where the first is above 0.
    """
    number = len(means)
    low, high = np.minimum.accumulate(means), np.maximum.accumulate(means)
    low_after, high_after = (f.accumulate(means[::-1])[::-1] for f in (np.minimum, np.maximum))
    above, below = low_after[cuts] - high[cuts - 1], low[cuts - 1] - high_after[cuts]
    # Those before are then the smallest of all, or the largest: their medians stand in the sorted means.
    ordered = np.sort(means, axis=0)

    def median(first: NDArray[np.int64], count: NDArray[np.int64]) -> Floats:
        return (ordered[first + (count - 1) // 2] + ordered[first + count // 2]) / 2

    zero, left = np.zeros_like(cuts), number - cuts
    rising = np.abs(median(cuts, left) - median(zero, cuts))
    falling = np.abs(median(zero, left) - median(left, cuts))
    return np.maximum(above, below), np.where(above > below, rising, falling)


def followed(state: Joints, actions: Joints, summaries: Sequence[EpisodeSummary]) -> list[Finding]:
    """Finds actions that the state does not follow: in an episode, or a joint in all of them.

    Of a joint that is noise, has an outlier or stands still, that alone is said.
    """
    rows = [(s.index, s.agreement, s) for s in summaries if s.agreement is not None]
    if len(rows) < 3:
        return []
    names = actions.names
    odd = state.outlying | actions.outlying | (state.low == state.high)
    noisy = state.noisy | actions.noisy
    agreement = np.array([row for _, row, _ in rows])
    moved = np.array([s.actions.high - s.actions.low for _, _, s in rows])
    usual, usually = np.median(agreement, axis=0), np.median(moved, axis=0)
    found: list[Finding] = []
    lost = (np.abs(agreement) < FOLLOWS_NOT) & (usual > FOLLOWS) & (moved > 0.5 * usually) & ~odd
    for joint in _some(np.any(lost, axis=0)):
        indices = tuple(index for (index, _, _), hit in zip(rows, lost[:, joint], strict=True) if hit)
        message = f"{names[joint]} of the state does not follow the actions, as it does elsewhere"
        way_out = "actions and states of different recordings, or a motor that was off"
        spot = Spot(Quantity.ACTIONS, joint, indices[0])
        place = numbers(indices, "episode")
        found.append(Finding(Code.UNFOLLOWED, place, message, way_out, indices, spot))
    range_of = np.array([s.state.high - s.state.low for _, _, s in rows])
    whole = range_of.max(axis=0)
    often = (range_of > 0.3 * np.where(whole > 0, whole, np.inf)).mean(axis=0) > 0.5
    never = (np.abs(usual) < FOLLOWS_NOT) & often & (usually > 0) & ~noisy
    if never.any() and not never.all() and np.median(usual[~never]) > FOLLOWS:
        named = ", ".join(names[i] for i in _some(never))
        message = f"{named}: the state does not follow the actions in any episode, as the other joints do"
        found.append(
            Finding(Code.UNFOLLOWED, "actions", message, "look whether both have the same order of joints")
        )
    return found


def actions_in_other_units(
    names: Sequence[str], state: Joints, actions: Joints, summaries: Sequence[EpisodeSummary]
) -> list[Finding]:
    """Finds actions that move with the state, in other units or at another place."""
    rows = [s.agreement for s in summaries if s.agreement is not None]
    if not rows or state.names != actions.names:
        return []
    together = (np.median(rows, axis=0) > FOLLOWS) & (state.width > 0) & (actions.width > 0)
    if together.sum() < 2:
        return []
    ratio = actions.width[together] / state.width[together]
    middle = float(np.median(ratio))
    for factor, units in UNITS.items():
        for by in (factor, 1 / factor):
            if abs(np.log(middle / by)) < 0.2 and np.mean(np.abs(np.log(ratio / middle)) < 0.4) > 0.5:
                message = f"move {middle:.3g} times as far as the state, as {units} are apart"
                return [Finding(Code.UNITS, "actions", message, "convert one of the two")]
    apart = np.maximum(actions.q01 - state.q99, state.q01 - actions.q99)
    wider = np.divide(actions.width, state.width, out=np.zeros(len(names)), where=together)
    elsewhere = together & (apart > 0) & (wider > 0.6) & (wider < 1.7)
    if not elsewhere.any():
        return []
    joint = int(np.flatnonzero(elsewhere)[0])
    message = (
        f"lie between {actions.q01[joint]:.3g} and {actions.q99[joint]:.3g}, and the state between "
        f"{state.q01[joint]:.3g} and {state.q99[joint]:.3g}, though they move together"
    )
    named = ", ".join(names[i] for i in _some(elsewhere))
    return [Finding(Code.UNITS, f"{named} (actions)", message, "look for another zero of one of the two")]


def alike(summaries: Sequence[EpisodeSummary], ranges: Floats) -> list[Finding]:
    """Pairs of episodes that are the same but for noise, of the same length."""
    usable = ranges > 0
    if len(summaries) < 2 or not usable.any():
        return []
    by_length: dict[int, list[EpisodeSummary]] = {}
    for summary in summaries:
        by_length.setdefault(summary.length, []).append(summary)
    pairs: list[tuple[int, int]] = []
    for same in by_length.values():
        prints = np.array([_print(s.actions, usable, ranges) for s in same])
        for row, others in enumerate(_neighbours(prints)):
            if not len(others) or np.ptp(prints[row]) == 0:
                continue
            near = np.abs(prints[others] - prints[row]).max(axis=1) < SAME
            pairs += [
                (same[row].index, same[other].index)
                for other in others[near].tolist()
                if same[other].digest != same[row].digest
            ]
    if not pairs:
        return []
    shown = ", ".join(f"{a} and {b}" for a, b in pairs[:MOST])
    more = f" and {len(pairs) - MOST:,} pairs more" if len(pairs) > MOST else ""
    message = "have the same actions but for noise"
    indices = tuple(sorted({b for _, b in pairs}))
    return [Finding(Code.ALIKE, f"episodes {shown}{more}", message, "leave copies out", indices)]


def one_place(joints: Joints) -> list[Finding]:
    """Episodes that all do the same, as far as the joints' mean positions tell."""
    if len(joints.parts) < SHIFT_EPISODES:
        return []
    ranges = joints.high.max(axis=0) - joints.low.min(axis=0)
    whole = float(np.linalg.norm(ranges))
    if whole == 0:
        return []
    means = np.array([part.mean for _, _, part in joints.parts])
    apart = float(np.sqrt(2 * np.square(means - means.mean(axis=0)).sum(axis=1).mean()))
    if apart >= ALIKE * whole:
        return []
    message = (
        f"mean positions differ by {apart / whole:.1%} of the range: they show one thing again and again"
    )
    return [Finding(Code.ALIKE, "all episodes", message, "record from more places")]


def _neighbours(prints: Floats) -> Iterator[NDArray[np.int64]]:
    """Yields for each row [N, K] those behind it that may be the same, by the number that tells most."""
    best: tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]] | None = None
    least = np.inf
    for values in prints.T:
        order = np.argsort(values, kind="stable")
        reach = 2 * SAME  # more than enough, whatever is rounded
        first = np.searchsorted(values[order], values - reach, side="left")
        last = np.searchsorted(values[order], values + reach, side="right")
        if (size := int((last - first).sum())) < least:
            least, best = size, (order, first, last)
    if best is None:
        return
    order, first, last = best
    for row in range(len(prints)):
        near = order[first[row] : last[row]]
        yield np.sort(near[near > row])


def _print(part: ColumnSummary, usable: NDArray[np.bool_], ranges: Floats) -> Floats:
    values = np.concatenate([part.start, part.mean, part.low, part.high]).reshape(4, -1)
    return (values[:, usable] / ranges[usable]).reshape(-1)


def _some(chosen: NDArray[np.bool_] | np.bool_, most: int | None = MOST) -> list[int]:
    """The first few that are chosen, by number."""
    return [int(i) for i in np.flatnonzero(chosen)[:most]]
