"""Options of a command, derived from the dataclass that they fill in, and what options have in common.

A choice stands once: its name, type, default and sentence are those of the dataclass; here is how its value
is written on a command line.
"""

from __future__ import annotations

import dataclasses
import types
from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Literal,
    NamedTuple,
    TypeVar,
    Union,
    get_args,
    get_origin,
    get_type_hints,
)

import docstring_parser
import tyro
from tyro.constructors import PrimitiveConstructorSpec

from pioxide.errors import InputError

if TYPE_CHECKING:
    from pioxide.policy import FlowSampler
    from pioxide.robots import RobotSpec

T = TypeVar("T")
Realtime = Literal["off", "guided", "trained"]

# What stands for a value in the help, by option; others by their type.
METAVARS = {
    "dataset": "DATASET",
    "fit": "FITTED",
    "contract": "CKPT",
    "tokens": "TOKENS",
    "text_model": "FILE",
    "stats": "FILE",
    "fast": "DIR",
    "output": "DIR",
    "episodes": "A:B,!C",
    "held_out_episodes": "A:B,!C",
    "where": "CONDITION",
    "frames": "COLUMN|FILE.json",
    "task_key": "COLUMN",
    "asset_id": "NAME",
    "record": "DIR",
    "rerun": "FILE.rrd|URL",
    "key_file": "FILE",
    "tls_certificate": "FILE",
    "tls_key": "FILE",
}
SWITCH = {"on": True, "yes": True, "true": True, "off": False, "no": False, "false": False}


class _Written(NamedTuple):
    """How values of a type are written in one word: what stands for them, there and back."""

    metavar: str
    read: Callable[[str], Any]
    write: Callable[[Any], str] = str


def left_open(metavar: str, *, also: Sequence[str] = ()) -> Any:
    """Returns an option whose help says in words what holds without it, with no "(default: None)" behind.

    Args:
        metavar: What stands for a value.
        also: Other names of the option: what other commands call the same thing.
    """
    return tyro.conf.arg(metavar=metavar, help_behavior_hint="", aliases=list(also) or None)


def derived(settings: type, *, without: Sequence[str] = ()) -> Callable[[type[T]], type[T]]:
    """Returns a decorator that gives a command an option for each field of a dataclass.

    Args:
        settings: A dataclass whose docstring describes its fields under "Attributes:".
        without: Fields that the command itself fills in.
    """

    def decorate(command: type[T]) -> type[T]:
        hints = get_type_hints(settings)
        family = [base for base in settings.__mro__ if dataclasses.is_dataclass(base)]
        documents = [docstring_parser.parse(base.__doc__ or "") for base in family]
        described = {one.arg_name: one.description or "" for document in documents for one in document.params}
        options = [
            (field.name, _annotated(field, hints[field.name], described[field.name]), field)
            for field in _own_first(settings)
            if field.name not in without
        ]
        made = dataclasses.make_dataclass(
            command.__name__,
            [(name, kind, dataclasses.field(default=field.default)) for name, kind, field in options],
            bases=(command,),
            frozen=True,
            kw_only=True,
        )
        made.__doc__ = command.__doc__
        made.__module__ = command.__module__
        return made

    return decorate


def _own_first(settings: type) -> list[dataclasses.Field[Any]]:
    """A dataclass's fields, with those that it shares with others behind its own."""
    fields: list[dataclasses.Field[Any]] = list(dataclasses.fields(settings))
    return sorted(fields, key=lambda field: field.name not in settings.__annotations__)


def taken(command: Any, settings: type[T], **more: Any) -> T:
    """Returns the dataclass that a command's derived options fill in.

    Args:
        command: Parsed.
        settings: As in `derived`.
        more: The fields that `derived` left out.
    """
    names = [f.name for f in dataclasses.fields(settings) if f.name not in more]  # type: ignore[arg-type]
    return settings(**{name: getattr(command, name) for name in names}, **more)


def parsed(command: Any, arguments: Sequence[str], **told: Any) -> Any:
    """Returns what `tyro.cli` makes of the arguments, with values written and named as everywhere here.

    Raises:
        InputError: An option of several values is given twice: the second would take the first one's place.
    """
    given = [one.partition("=")[0].replace("_", "-") for one in arguments if one.startswith("--")]
    for name in _of_several_values(command):
        if given.count(f"--{name}") > 1:
            raise InputError(f"--{name} is given twice: write all its values after one --{name}")
    return tyro.cli(command, args=arguments, registry=_VALUES, **told)


def _of_several_values(command: Any, within: str = "") -> Iterator[str]:
    """Yields the options that take more than one value, as they are written, those of its parts too."""
    if not dataclasses.is_dataclass(command):
        return
    hints = get_type_hints(command)
    for field in dataclasses.fields(command):
        name, hint = f"{within}{field.name.replace('_', '-')}", hints[field.name]
        if get_origin(hint) is tuple and Ellipsis in get_args(hint):
            yield name
        yield from _of_several_values(hint, f"{name}.")


_VALUES = tyro.constructors.ConstructorRegistry()


@_VALUES.primitive_rule
def _as_everywhere(info: tyro.constructors.PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    kind: Any = info.type
    if kind is str or kind is float:
        written = _written(kind)
    elif isinstance(kind, type) and issubclass(kind, StrEnum):
        choices = tuple(str(choice) for choice in kind)
        one = _one_of(choices)
        written = _Written("{" + ",".join(choices) + "}", lambda text: kind(one(text.lower())))
    else:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar=written.metavar,
        instance_from_str=lambda words: written.read(words[0]),
        is_instance=lambda value: isinstance(value, (kind, int) if kind is float else kind),
        str_from_instance=lambda value: [written.write(value)],
    )


def _annotated(field: dataclasses.Field[Any], hint: Any, text: str) -> Any:
    kind, optional = _plain_type(hint)
    written = _written(kind)
    described = " ".join(text.split())
    if kind is bool and field.default is False:
        return Annotated[tyro.conf.FlagCreatePairsOff[bool], tyro.conf.arg(help=described)]
    spec = PrimitiveConstructorSpec(
        nargs=1,
        # A number of episodes is no list of them.
        metavar=written.metavar if kind in (int, float) else METAVARS.get(field.name, written.metavar),
        instance_from_str=lambda words: written.read(words[0]),
        is_instance=lambda value: (
            value is None or isinstance(value, get_origin(kind) or kind)
            if get_origin(kind) is not Literal
            else True
        ),
        str_from_instance=lambda value: ["" if value is None else written.write(value)],
    )
    # Where nothing is given, the sentence says what holds then, and no "(default: None)" follows.
    left_out = "" if field.default in (None, "", ()) else None
    shown = tyro.conf.arg(help=described, help_behavior_hint=left_out)
    return Annotated[hint if optional else kind, spec, shown]


def _plain_type(hint: Any) -> tuple[Any, bool]:
    """A type without "| None", and whether that was there."""
    if get_origin(hint) in (Union, types.UnionType):
        parts = [part for part in get_args(hint) if part is not type(None)]
        return parts[0], True
    return hint, False


def _written(kind: Any) -> _Written:
    from pioxide.family import Family
    from pioxide.robots import RobotSpec

    if get_origin(kind) is Literal:
        return _Written("{" + ",".join(get_args(kind)) + "}", _one_of(get_args(kind)))
    if get_origin(kind) is tuple:
        if get_args(kind)[0] is float:
            return _Written("NUMBER,NUMBER", _numbers, lambda values: ",".join(f"{v:g}" for v in values))
        if get_args(kind)[0] is int:
            return _Written("N,-N", _runs, lambda runs: ",".join(map(str, runs)))
        return _Written("A,B", listed, ",".join)
    if kind is RobotSpec:
        return _Written("NAME|FILE.yaml", read_robot, lambda robot: robot.name)
    if kind is Family:
        return _Written("{" + ",".join(Family) + "}", Family)
    if kind is bool:
        return _Written("{on,off}", _switch, lambda value: "on" if value else "off")
    return {
        int: _Written("INT", _whole),
        float: _Written("NUMBER", float),
        str: _Written("TEXT", str),
        Path: _Written("PATH", Path),
    }[kind]


def _one_of(choices: tuple[str, ...]) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in choices:
            raise ValueError(f"expected one of {', '.join(choices)}, got {text!r}")
        return text

    return read


def _whole(text: str) -> int:
    return int(text.replace("_", "").replace(",", ""))


def _switch(text: str) -> bool:
    if text.lower() not in SWITCH:
        raise ValueError(f"expected on or off, got {text!r}")
    return SWITCH[text.lower()]


def listed(text: str) -> tuple[str, ...]:
    """Returns the parts between commas: a list of words would swallow the arguments behind it."""
    return tuple(part.strip() for part in text.split(",") if part.strip())


def _numbers(text: str) -> tuple[float, ...]:
    return tuple(float(part) for part in listed(text))


def _runs(text: str) -> tuple[int, ...]:
    from pioxide.shards import parse_mask

    return parse_mask(text)


def slot_keys(texts: Sequence[str], option: str) -> dict[str, str | None] | None:
    """Returns a robot's camera key by image slot of texts SLOT=KEY; None where there are none.

    Raises:
        InputError: A text is no such pair, or a slot stands twice; names the option.
    """
    keys: dict[str, str | None] = {}
    for one in texts:
        slot, equals, key = one.partition("=")
        if not (slot and equals and key):
            raise InputError(f"{option} {one!r}: expected SLOT=KEY")
        if slot in keys:
            raise InputError(f"{option}: the slot {slot!r} stands twice")
        keys[slot] = key
    return keys or None


def flow_sampler(
    realtime: Realtime, num_steps: int | None = None, guidance: float | None = None
) -> FlowSampler | None:
    """Returns how chunks are sampled where a person chose something of it; None leaves it to the model."""
    from pioxide.policy import FlowSampler, RTCConfig

    if realtime == "off" and num_steps is None and guidance is None:
        return None
    how = {"off": None, "guided": RTCConfig(), "trained": "trained"}[realtime]
    return FlowSampler(num_steps, how, 1.0 if guidance is None else guidance)


def robot_or_name(text: str | None) -> RobotSpec | str | None:
    """Returns what `Policy.load` takes for --robot: the robot of a YAML file, or a name, which it looks up.

    Raises:
        FormatError: The file is no robot.
    """
    return text if text is None or not text.endswith((".yaml", ".yml")) else read_robot(text)


def read_robot(text: str) -> Any:
    """Returns the robot of a preset's name or of a YAML file.

    Raises:
        InputError: There is no such preset, and it is no YAML file's name.
        FormatError: The file is no robot.
    """
    from pioxide.robots import ROBOTS, RobotSpec

    if text in ROBOTS:
        return ROBOTS[text]()
    if text.endswith((".yaml", ".yml")):
        return RobotSpec.from_yaml(text)
    raise InputError(f"there is no robot {text!r}; expected one of {', '.join(ROBOTS)}, or a FILE.yaml")
