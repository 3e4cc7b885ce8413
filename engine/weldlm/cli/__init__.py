"""The command line: results to stdout, progress and errors to stderr.

Commands import what computes only when they run, so that `--help` needs no torch.
"""

import errno
import os
import re
import sys
import traceback
from collections.abc import Sequence
from typing import NoReturn

import click

from weldlm import __version__
from weldlm.cli.backends import backends
from weldlm.cli.bench import bench
from weldlm.cli.bias import bias
from weldlm.cli.chat import chat
from weldlm.cli.convert import convert
from weldlm.cli.cost import cost
from weldlm.cli.data import data
from weldlm.cli.demo import demo
from weldlm.cli.distill import distill
from weldlm.cli.doctor import doctor
from weldlm.cli.encoders import classify, embed, fill_mask
from weldlm.cli.evaluate import evaluate
from weldlm.cli.finetune import finetune
from weldlm.cli.generate import generate
from weldlm.cli.info import info
from weldlm.cli.inspect import inspect
from weldlm.cli.merge import merge
from weldlm.cli.predict import predict
from weldlm.cli.serve import serve
from weldlm.cli.tokenizer import tokenizer
from weldlm.cli.train import train
from weldlm.interrupt import Terminated, catch_sigterm

__all__ = ["main"]

EXIT_FAILURE = 1  # the engine failed
EXIT_USAGE = 2  # what was asked cannot be done
EXIT_INTERRUPTED = 130
EXIT_TERMINATED = 143

# errors of the operating system that the user can mend with another path, and how; others, like a
# full disk, are failures
_WRONG_PATHS = {
    errno.EACCES: "change its permissions or choose another path",
    errno.EEXIST: "remove it or choose another path",
    errno.EISDIR: "give the path of a file",
    errno.ELOOP: "give a path without a loop of links",
    errno.ENAMETOOLONG: "choose a shorter path",
    errno.ENOENT: "check the path, or make the folder that shall hold it",
    errno.ENOTDIR: "give a path that leads through folders only",
    errno.EPERM: "choose another path",
    errno.EROFS: "choose another path",
}
_ADVICE = {**_WRONG_PATHS, errno.ENOSPC: "free some and give the same command again"}
_USAGE_ERRORS = (
    click.ClickException,
    ValueError,
    BlockingIOError,
    FileExistsError,
    FileNotFoundError,
    IsADirectoryError,
    ModuleNotFoundError,  # of an extra
    NotADirectoryError,
    PermissionError,
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="weldlm")
@click.option("--traceback", is_flag=True, help="Show where an error came from.")
def weldlm(traceback: bool) -> None:
    """Train, try and measure transformer language models.

    Start with `weldlm demo`: it needs no network, no data and no options.
    """


def _add_traceback(command: click.Command) -> None:
    """Lets `--traceback` stand behind the name of the command too."""
    if isinstance(command, click.Group):
        for part in command.commands.values():
            _add_traceback(part)
    else:
        text = "Show where an error came from."
        option = click.Option(["--traceback"], is_flag=True, expose_value=False, help=text)
        command.params.append(option)


_COMMANDS = (
    demo,
    tokenizer,
    data,
    train,
    finetune,
    distill,
    predict,
    generate,
    chat,
    serve,
    embed,
    classify,
    fill_mask,
    merge,
    evaluate,
    bias,
    info,
    inspect,
    cost,
    convert,
    bench,
    backends,
    doctor,
)

for command in _COMMANDS:
    _add_traceback(command)
    weldlm.add_command(command)


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command line and exits.

    0 done, 1 engine failure, 2 usage, 3 done but rows failed, 130 or 143 interrupted.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    # Threads that wait spin for microseconds, then sleep: long spins hold up whatever else runs on
    # the same cores, and sleeping at once slows an idle machine. Read when torch is loaded.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "20000")
    try:
        with catch_sigterm():
            code = weldlm.main(arguments, prog_name="weldlm", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)
        sys.exit(EXIT_USAGE)
    except click.UsageError as error:
        _fail(_usage_message(error), EXIT_USAGE)
    except (click.Abort, KeyboardInterrupt) as error:
        if isinstance(error.__cause__ or error, Terminated):
            _fail("terminated", EXIT_TERMINATED)
        _fail("interrupted", EXIT_INTERRUPTED)
    except BrokenPipeError:
        # the reader of our output is gone; nothing is left to tell it
        sys.stderr.close()
        sys.exit(EXIT_FAILURE)
    except Exception as error:
        if "--traceback" in arguments:
            traceback.print_exc()
        message = _with_options(_message(error), arguments)
        if _is_usage(error):
            _fail(message, EXIT_USAGE)
        _fail(f"{message} (--traceback shows where)", EXIT_FAILURE)
    sys.exit(code if isinstance(code, int) else 0)


def _is_usage(error: Exception) -> bool:
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in _WRONG_PATHS
    return isinstance(error, _USAGE_ERRORS)


def _message(error: Exception) -> str:
    if isinstance(error, click.ClickException):
        text = error.format_message()
    elif isinstance(error, OSError) and error.strerror:
        parts = [error.filename2 or error.filename, error.strerror[0].lower() + error.strerror[1:]]
        text = ": ".join(str(part) for part in parts if part is not None)
        text += f"; {_ADVICE[error.errno]}" if error.errno in _ADVICE else ""
    else:
        text = str(error) or type(error).__name__
    return " ".join(text.split())


def _with_options(message: str, arguments: Sequence[str]) -> str:
    """Says `--vocab-size` where a message says `vocab_size` and the command has such an option."""
    command: click.Command = weldlm
    for argument in arguments:
        if isinstance(command, click.Group):
            command = command.commands.get(argument, command)
    for parameter in command.params:
        if isinstance(parameter, click.Option) and parameter.name:
            if parameter.name in arguments:
                continue  # a path may be called like an option
            # a name of one word is also a word, except where a message begins with it
            start = r"\b" if "_" in parameter.name else r"\A"
            message = re.sub(
                rf"{start}{parameter.name}\b(?=[ =;,.]|\Z)", parameter.opts[0], message
            )
    return message


def _usage_message(error: click.UsageError) -> str:
    command = error.ctx.command_path if error.ctx else "weldlm"
    return f"{_message(error)} (see: {command} --help)"


def _fail(message: str, code: int) -> NoReturn:
    click.echo(f"weldlm: {message}", err=True)
    sys.exit(code)
