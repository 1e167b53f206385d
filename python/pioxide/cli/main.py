"""The `pioxide` command line: reads the arguments, runs one command, turns what happened into an exit status.

0 done; 1 a fault of ours (with traceback); 2 something the user can put right (one sentence); 3 done, but
some episodes were left out as asked, `check` or `doctor` found faults, or `eval` missed its --at-least; 4
there are warnings, and --strict was said; 130 interrupted; 143 terminated, and so on: 128 and the signal's
number.
"""

from __future__ import annotations

import dataclasses
import difflib
import errno
import importlib
import io
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any, Union

import pioxide
from pioxide.cli import show
from pioxide.cli.signals import Stopped, drop_output, watched
from pioxide.errors import InputError, PioxideError

# Command -> its module under pioxide.cli, its class, and what the list of commands says of it: nothing heavy
# is imported for that. Their order is the order of the help.
COMMANDS = {
    "demo": ("demo", "Demo", "All of it on robot episodes that ship with pioxide, without network."),
    "check": ("check", "Check", "What is wrong with robot datasets, before anything is made of them."),
    "fit": ("fit", "Fit", "Norm statistics and a FAST tokenizer from a robot dataset."),
    "tokenize": ("tokenize", "Tokenize", "Every frame of a robot dataset as a row of training tokens."),
    "merge": ("merge", "Merge", "One output of the parts of `tokenize --part`, made by several machines."),
    "export": ("export", "Export", "Tokens as columns of a LeRobot dataset, or as ArrayRecord for grain."),
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
    "jax": "jax",
    "flax": "jax",
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
    "av": "video",
    "gymnasium": "eval",
    "mujoco": "eval",
    "PIL": "train",
}

OK, OUR_FAULT, YOUR_MISTAKE, LEFT_OUT, FOUND = 0, 1, 2, 3, 4


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        argv: the arguments after the program's name; the process's own by default.

    Returns:
        The exit status, as the module's first lines list them.

    Raises:
        SystemExit: by the argument parser, after `--help` (0) or an unknown option (2).
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        # "π", or a file's name, must not end a command whose output the terminal can't show.
        sys.stdout.reconfigure(errors="backslashreplace")
    with watched() as stopped:
        return _run(arguments, stopped)


def _run(arguments: list[str], stopped: Stopped) -> int:
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
        return _say(
            f'this needs {error.name}, which is not installed; pip install "pioxide[{extra}]"', YOUR_MISTAKE
        )
    except KeyboardInterrupt as error:
        return _say(str(error) or stopped.sentence, stopped.status)
    except MemoryError as error:
        return _say(f"not enough memory: {error}", YOUR_MISTAKE)
    except BrokenPipeError:
        # Whoever read our output has enough of it (`pioxide ... | head`).
        drop_output()
        return OK
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.EIO):
            return _confess(stopped)
        drop_output()
        return _say(f"can't write {error.filename or 'the output'}: {error.strerror}", YOUR_MISTAKE)
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
    import tyro

    if name in COMMANDS:
        return tyro.cli(_command(name), args=arguments[1:], prog=f"pioxide {name}")
    choices: Any = Union[  # noqa: UP007 - made at run time
        tuple(
            Annotated[
                dataclasses.make_dataclass(kind, []), tyro.conf.subcommand(name, description=description)
            ]
            for name, (_, kind, description) in COMMANDS.items()
        )
    ]
    return tyro.cli(
        choices,
        args=arguments,
        prog="pioxide",
        description="Robot datasets to training tokens for the π policies.",
    )


def _command(name: str) -> Any:
    module, kind, _ = COMMANDS[name]
    return getattr(importlib.import_module(f"pioxide.cli.{module}"), kind)


def _say(sentence: str, status: int) -> int:
    print(f"pioxide: {show.printable(sentence)}", file=sys.stderr)
    return status


def _confess(stopped: Stopped) -> int:
    if stopped.signal is not None:  # which an import has turned into some error of its own
        return _say(stopped.sentence, stopped.status)
    traceback.print_exc()
    return _say(
        f"this is a fault in pioxide {pioxide.__version__}, not yours; please report the lines above", 1
    )
