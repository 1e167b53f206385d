"""The `pioxide` command: reads the arguments, runs one command, turns what happened into an exit status."""

from __future__ import annotations

import dataclasses
import difflib
import errno
import importlib
import importlib.util
import inspect
import io
import sys
import time
import traceback
from collections.abc import Sequence
from typing import Annotated, Any, Union

import pioxide
from pioxide.cli import output
from pioxide.cli.signals import Stopped, drop, patient_streams, watched
from pioxide.errors import InputError, PioxideError

# Command -> its module under pioxide.cli, its class, and what the list of commands says of it: nothing heavy
# is imported for that. Their order is the order of the help.
COMMANDS = {
    "demo": ("demo", "Demo", "All of it on robot episodes that ship with pioxide, without network."),
    "check": ("check", "Check", "What is wrong with robot datasets, before anything is made of them."),
    "index": ("index", "Index", "A dataset of RLDS records (DROID, Open X-Embodiment)."),
    "idle": ("idle", "Idle", "The frames of a dataset in which the robot does something."),
    "fit": ("fit", "Fit", "Norm statistics and a FAST tokenizer from a robot dataset."),
    "tokenize": ("tokenize", "Tokenize", "Every frame of a robot dataset as a row of training tokens."),
    "merge": ("merge", "Merge", "One output of the parts of `tokenize --part`, made by several machines."),
    "export": ("export", "Export", "Tokens as columns of a LeRobot dataset, or as ArrayRecord for grain."),
    "train": ("train", "Train", "A recipe and a robot dataset to a policy."),
    "inspect": ("inspect", "Inspect", "What tokens or a fitted tokenizer are worth, as tables and pictures."),
    "record": ("record", "Record", "Demonstrations of a simulated task, to train on."),
    "eval": ("eval", "Eval", "How often a checkpoint does a task, in closed loop in a simulator."),
    "fetch": ("fetch", "Fetch", "The text model, and the published FAST tokenizer."),
    "info": ("info", "Info", "What a checkpoint is."),
    "doctor": ("doctor", "Doctor", "Whether checkpoint, robot, dataset and tokens mean the same numbers."),
    "serve": ("serve", "Serve", "A checkpoint that robots ask over a network."),
    "replay": ("replay", "Replay", "What a server recorded, asked again of a checkpoint, or as a dataset."),
    "convert": ("convert", "Convert", "A checkpoint in another format."),
}

# What a missing module means to somebody who installed pioxide with pip.
EXTRAS = {
    "pyarrow": "data",
    "tyro": "data",
    "rich": "data",
    "matplotlib": "report",
    "jax": "weights",
    "flax": "weights",
    "orbax": "weights",
    "tensorstore": "weights",
    "ml_dtypes": "weights",
    "array_record": "train",
    "grain": "train",
    "fsspec": "fetch",
    "gcsfs": "fetch",
    "s3fs": "fetch",
    "huggingface_hub": "fetch",
    "aiohttp": "fetch",
    "websockets": "serve",
    "msgpack": "serve",
    "prometheus_client": "serve",
    "zenoh": "zenoh",
    "av": "video",
    "optax": "train",
    "tensorboardX": "train",
    "gymnasium": "eval",
    "mujoco": "eval",
    "PIL": "train",
}

# Commands that need more than what is missed first: all of it is named at once.
NEEDS = {"train": "train", "record": "eval", "eval": "eval", "serve": "serve", "replay": "serve"}

OK, OUR_FAULT, YOUR_MISTAKE, LEFT_OUT, FOUND = 0, 1, 2, 3, 4
# What every exit status means; docs/commands.md has the same table.
STATUSES = {
    OK: "done",
    OUR_FAULT: "a fault of pioxide's own, with a traceback to report",
    YOUR_MISTAKE: "something that you can put right, said in a sentence; also an option that can't be read",
    LEFT_OUT: "done, but episodes were left out; check, doctor: faults; eval: below --at-least",
    FOUND: "there are warnings, and --strict was said",
    129: "the terminal was closed",
    130: "interrupted (Ctrl-C)",
    143: "terminated",
}
# What a disk or a machine refuses, whichever file it is: for its owner to put right.
THE_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG)
THE_MACHINES = (
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG),
    *(errno.EMFILE, errno.ENFILE),
)


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command.

    Args:
        argv: the arguments after the program's name; the process's own by default.

    Returns:
        The exit status, one of `STATUSES`.

    Raises:
        SystemExit: by the argument parser, after `--help` (0) or an unknown option (2).
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # "π", or a file's name, must not end a command whose output the terminal can't show.
        sys.stdout.reconfigure(errors="backslashreplace")
    with patient_streams(), watched() as stopped:
        return _run(arguments, stopped)


def _run(arguments: list[str], stopped: Stopped) -> int:
    name = arguments[0] if arguments else "help"
    own_json = "--json" not in arguments or _has_own_json(name)
    said, rest = output.split(arguments, own_json=own_json)
    began = time.monotonic()
    with said.active(name):
        try:
            status = _status(rest, stopped)
        except SystemExit as end:  # the parser has printed help, or what is wrong with the options
            said.event("failed" if end.code else "done", status=end.code or OK)
            raise
        if not said.ended:
            said.event("done", status=status, seconds=round(time.monotonic() - began, 3), **said.result)
    return status


def _has_own_json(name: str) -> bool:
    try:
        return name not in COMMANDS or "json" in {f.name for f in dataclasses.fields(_command(name))}
    except ImportError:  # which is heard of when the command is run
        return False


def _status(arguments: list[str], stopped: Stopped) -> int:
    try:
        try:
            return _parse(arguments or ["--help"])() or OK
        finally:
            sys.stdout.flush()  # a full disk is to be heard of here, and not when Python ends
    except PioxideError as error:
        return _say(str(error), YOUR_MISTAKE)
    except ModuleNotFoundError as error:
        extra = EXTRAS.get((error.name or "").partition(".")[0])
        if extra is None:
            return _confess(stopped)
        if extra in ("data", "jax", "weights"):
            extra = NEEDS.get(arguments[0] if arguments else "", extra)
        return _say(
            f'this needs {error.name}, which is not installed; pip install "pioxide[{extra}]"', YOUR_MISTAKE
        )
    except KeyboardInterrupt as error:
        return _say(str(error) or stopped.sentence, stopped.status)
    except MemoryError as error:
        return _say(f"not enough memory: {error}", YOUR_MISTAKE)
    except OSError as error:
        if error.errno in THE_DISKS:
            drop(sys.stdout)
            return _say(f"can't write {error.filename or 'the output'}: {error.strerror}", YOUR_MISTAKE)
        if error.errno in THE_MACHINES and error.filename is not None:
            return _say(f"{error.filename}: {error.strerror}", YOUR_MISTAKE)
        return _confess(stopped)
    except Exception:
        return _confess(stopped)


def _parse(arguments: list[str]) -> Any:
    """The command object that the arguments describe. The one that is named is imported, and no other."""
    if arguments in (["--version"], ["-V"]):
        return lambda: print(f"pioxide {pioxide.__version__}")
    if arguments[0] == "help":
        arguments = [*arguments[1:2], "--help"]
    name = arguments[0]
    if name not in COMMANDS and not name.startswith("-"):
        near = difflib.get_close_matches(name, COMMANDS, 1)
        hint = f"did you mean {near[0]}?" if near else f"there is {', '.join(COMMANDS)}"
        raise InputError(f"no command {name!r}; {hint}")
    if name not in COMMANDS and importlib.util.find_spec("tyro") is None:
        return _plain_overview
    import tyro

    from pioxide.cli.options import parsed

    if name in COMMANDS:
        kind, prog = _command(name), f"pioxide {name}"
        if hasattr(kind, "parse"):  # whose options depend on its first argument
            return kind.parse(arguments[1:], prog)
        text = f"{inspect.cleandoc(kind.__doc__ or '')}\n\n{output.COMMON}"
        return parsed(kind, arguments[1:], prog=prog, description=text)
    choices: Any = Union[  # noqa: UP007 - made at run time
        tuple(
            Annotated[
                dataclasses.make_dataclass(kind, []), tyro.conf.subcommand(name, description=description)
            ]
            for name, (_, kind, description) in COMMANDS.items()
        )
    ]
    return parsed(
        choices,
        arguments,
        prog="pioxide",
        description="Robot datasets to training tokens for the π policies.\n\n" + _in_general(),
    )


def _plain_overview() -> None:
    """Lists the commands to somebody who has installed the codec alone, in which none of them can run."""
    width = max(map(len, COMMANDS))
    lines = [f"  {name:<{width}}  {description}" for name, (_, _, description) in COMMANDS.items()]
    print("\n".join(["usage: pioxide COMMAND ...", "", *lines, "", _in_general(), ""]))
    print(f'commands need more than the codec does: pip install "pioxide[{EXTRAS["tyro"]}]"')


def _in_general() -> str:
    """What holds for every command: the common options, and a table of exit statuses."""
    lines = [f"{status:>3}  {meaning}" for status, meaning in STATUSES.items()]
    return "\n\n".join([output.COMMON, "Exit status:\n" + "\n".join(lines)])


def _command(name: str) -> Any:
    module, kind, _ = COMMANDS[name]
    return getattr(importlib.import_module(f"pioxide.cli.{module}"), kind)


def _say(sentence: str, status: int) -> int:
    output.current.failed(sentence, status)
    return status


def _confess(stopped: Stopped) -> int:
    if stopped.signal is not None:  # which an import has turned into some error of its own
        return _say(stopped.sentence, stopped.status)
    traceback.print_exc()
    return _say(
        f"this is a fault in pioxide {pioxide.__version__}, not yours; please report the lines above", 1
    )
