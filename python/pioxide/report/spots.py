"""What a finding of `pioxide check` looks like: a joint's curve, steps in time, one value again and again."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from pioxide.data import Code, Episode, Finding, FrameColumns, LeRobotDataset, Quantity, Spot
from pioxide.report.digits import short
from pioxide.report.style import FIRST, RULE, SECOND, SOFT, Picture, canvas, finish, grid, thousands

# Other episodes behind the one that is shown, and episodes that a distribution is taken of.
BESIDE, SAMPLED = 6, 60
HEIGHT = 1.9

Read = tuple[LeRobotDataset, FrameColumns]


def draw(of: Read, finding: Finding, name: str) -> Picture | None:
    """Returns what can be seen of a finding, None where nothing can.

    Args:
        of: the dataset, and which columns were looked at.
        finding: what was found there.
        name: keeps the picture's ids apart from those of other pictures.

    Raises:
        DatasetError: the episode can't be read any more.
    """
    spot = finding.spot
    if spot is None:
        return None
    if spot.quantity is Quantity.TIME:
        return _steps(of, spot, name)
    if finding.code in (Code.LIMIT, Code.SELDOM):
        return _distribution(of, spot, name)
    if finding.code is Code.SHIFTED:
        return _means(of, finding, spot, name)
    if spot.episode is None:
        return None
    if finding.code in (Code.UNFOLLOWED, Code.STILL_ONCE, Code.REVERSED) and _paired(of):
        return _pair(of, spot, name)
    return _curve(of, finding, spot, name)


def _paired(of: Read) -> bool:
    dataset, columns = of
    return columns.state_names(dataset) == columns.action_names(dataset)


def _values(of: Read, episode: Episode, quantity: Quantity) -> NDArray[np.float64]:
    columns = of[1]
    values = columns.state(episode) if quantity is Quantity.STATE else columns.actions(episode)
    return np.asarray(values, np.float64)


def _names(of: Read, quantity: Quantity) -> Sequence[str]:
    dataset, columns = of
    return columns.state_names(dataset) if quantity is Quantity.STATE else columns.action_names(dataset)


def _some(of: Read, most: int, without: int | None = None) -> list[Episode]:
    """Some episodes spread over the dataset, those that can be read."""
    dataset, columns = of
    every = [info.index for info in dataset.episodes if info.index != without and not info.problem]
    chosen = [every[i] for i in np.unique(np.linspace(0, len(every) - 1, most).astype(int))] if every else []
    return list(dataset.scan(columns.all, chosen, on_bad=lambda *_: None))


def _curve(of: Read, finding: Finding, spot: Spot, name: str) -> Picture:
    """A joint over an episode, before the same joint in others; all joints where none is meant."""
    assert spot.episode is not None
    dataset, columns = of
    values = _values(of, dataset.read(spot.episode, columns.all), spot.quantity)
    with canvas(HEIGHT) as figure:
        axes = figure.add_subplot()
        if spot.joint is None:
            spread = np.ptp(values, axis=0)
            scaled = (values - values.min(axis=0)) / np.where(spread > 0, spread, 1)
            axes.plot(scaled, color=FIRST, linewidth=0.9, alpha=0.7)
            axes.set_yticks([])
            axes.set_ylabel("all joints, scaled")
            what = f"all joints of the {spot.quantity.value}"
        else:
            for other in _some(of, BESIDE, spot.episode):
                axes.plot(_values(of, other, spot.quantity)[:, spot.joint], color=RULE, linewidth=0.9)
            axes.plot(values[:, spot.joint], color=FIRST)
            what = _names(of, spot.quantity)[spot.joint]
            axes.set_ylabel(_cut(what))
        if finding.code is Code.FROZEN and spot.frame is not None:
            same = np.flatnonzero((values[spot.frame :] != values[spot.frame]).any(axis=1))
            stop = spot.frame + (int(same[0]) if len(same) else len(values) - spot.frame)
            axes.axvspan(spot.frame, stop, color=SECOND, alpha=0.15, linewidth=0)
        elif spot.frame is not None and spot.joint is not None:
            at = values[spot.frame, spot.joint]
            axes.scatter(
                [spot.frame], [at], s=70, facecolor="none", edgecolor=SECOND, linewidth=1.6, zorder=4
            )
        axes.set_xlabel("frame")
        grid(axes)
        return finish(figure, name, f"{what} in episode {spot.episode}. {finding.place}: {finding.message}")


def _pair(of: Read, spot: Spot, name: str) -> Picture:
    """State and action of one joint in an episode."""
    assert spot.episode is not None
    assert spot.joint is not None
    dataset, columns = of
    episode = dataset.read(spot.episode, columns.all)
    joint = _names(of, spot.quantity)[spot.joint]
    with canvas(HEIGHT) as figure:
        axes = figure.add_subplot()
        for quantity, colour in ((Quantity.ACTIONS, SECOND), (Quantity.STATE, FIRST)):
            values = _values(of, episode, quantity)[:, spot.joint]
            axes.plot(values, color=colour, label="action" if quantity is Quantity.ACTIONS else "state")
        axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0, 1), ncols=2, borderpad=0)
        axes.set_xlabel("frame")
        axes.set_ylabel(_cut(joint))
        grid(axes)
        return finish(figure, name, f"State and action of {joint} in episode {spot.episode}.")


def _steps(of: Read, spot: Spot, name: str) -> Picture:
    """From each frame to the next, in milliseconds."""
    assert spot.episode is not None
    dataset, _ = of
    stamps = dataset.read(spot.episode, ["timestamp"]).columns["timestamp"].reshape(-1)
    steps = np.diff(stamps.astype(np.float64)) * 1e3
    with canvas(HEIGHT) as figure:
        axes = figure.add_subplot()
        if dataset.fps:
            axes.axhline(1e3 / dataset.fps, color=SOFT, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.vlines(np.arange(1, len(steps) + 1), 0, steps, color=FIRST, linewidth=0.9)
        if spot.frame is not None:
            axes.vlines([spot.frame], 0, [steps[spot.frame - 1]], color=SECOND, linewidth=2.2)
        axes.set_xlabel("frame")
        axes.set_ylabel("since the one before, ms")
        grid(axes)
        longest = short(float(steps.max()))
        return finish(figure, name, f"Time between frames of episode {spot.episode}; at most {longest} ms.")


def _distribution(of: Read, spot: Spot, name: str) -> Picture:
    """How often a joint has which value, on a logarithmic scale."""
    assert spot.joint is not None
    parts = [_values(of, episode, spot.quantity)[:, spot.joint] for episode in _some(of, SAMPLED)]
    if spot.episode is not None:
        dataset, columns = of
        parts.append(_values(of, dataset.read(spot.episode, columns.all), spot.quantity)[:, spot.joint])
    values = np.concatenate(parts)
    joint = _names(of, spot.quantity)[spot.joint]
    with canvas(HEIGHT) as figure:
        axes = figure.add_subplot()
        axes.hist(values, bins=50, color=FIRST, log=True)
        axes.yaxis.set_major_formatter(thousands)
        axes.set_xlabel(_cut(joint))
        axes.set_ylabel("frames")
        grid(axes)
        return finish(figure, name, f"How often {joint} of the {spot.quantity.value} has which value.")


def _means(of: Read, finding: Finding, spot: Spot, name: str) -> Picture:
    """Where a joint is on average, by episode."""
    assert spot.joint is not None
    episodes = _some(of, 4 * SAMPLED)
    index = np.array([episode.index for episode in episodes])
    means = np.array([_values(of, e, spot.quantity)[:, spot.joint].mean() for e in episodes])
    joint = _names(of, spot.quantity)[spot.joint]
    after = np.isin(index, finding.episodes)
    with canvas(HEIGHT) as figure:
        axes = figure.add_subplot()
        axes.scatter(index[~after], means[~after], s=12, color=FIRST, linewidth=0)
        axes.scatter(index[after], means[after], s=12, color=SECOND, linewidth=0)
        axes.axvline(finding.episodes[0] - 0.5, color=SOFT, linewidth=0.8, linestyle=(0, (4, 3)))
        axes.set_xlabel("episode")
        axes.set_ylabel(f"{_cut(joint)}, mean")
        grid(axes)
        return finish(figure, name, f"Mean of {joint} by episode. {finding.place}: {finding.message}")


def _cut(name: str, most: int = 24) -> str:
    return name if len(name) <= most else f"{name[: most - 1]}…"
