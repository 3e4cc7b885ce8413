"""Command line options from a settings dataclass: same names, and its comments as help."""

import ast
import dataclasses
import inspect
import io
import re
import tokenize
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import click

__all__ = [
    "config_option",
    "device_option",
    "dtype_option",
    "given",
    "require_folder",
    "settings_options",
]

Command = Callable[..., Any]

device_option = click.option("--device", help="cpu or cuda. Default: the GPU if there is one.")
dtype_option = click.option(
    "--dtype", type=click.Choice(["float32", "float16", "bfloat16"]), help="Of weights."
)


def settings_options(settings: type, *, skip: tuple[str, ...] = ()) -> Callable[[Command], Command]:
    """Returns a decorator that adds an option for every field of the dataclass `settings`.

    The comment behind a field is the option's help. An option that is not given arrives as None.
    """
    hints, helps = get_type_hints(settings), _comments(settings)
    fields = [field for field in dataclasses.fields(settings) if field.name not in skip]

    def add(command: Command) -> Command:
        for field in reversed(fields):
            command = _option(field, hints[field.name], helps.get(field.name, ""))(command)
        return command

    return add


def config_option(command: Command) -> Command:
    """Adds --config: a TOML file of options by their names, which the command line overrides."""
    return click.option(
        "--config",
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        is_eager=True,
        expose_value=False,
        callback=_read_config,
        help="TOML file with options by name, such as rows_per_step = 8; options given win.",
    )(command)


def _read_config(context: click.Context, _parameter: click.Parameter, path: Path | None) -> None:
    if path is None:
        return
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not TOML ({error}); mend it") from error
    options = {part.name: part for part in context.command.params if isinstance(part, click.Option)}
    names = {name.replace("-", "_"): value for name, value in values.items()}
    for name, value in names.items():
        if name not in options or name == "config":
            known = ", ".join(sorted(name for name in options if name not in (None, "config")))
            raise ValueError(f"{path} sets {name}, which is no option; expected any of {known}")
        if isinstance(value, dict):
            raise ValueError(f"{path} sets {name} to a table; expected a value")
    context.default_map = names


def require_folder(file: Path | None) -> None:
    """Checks, before long work, that a file can be made: its folder is there and it is none."""
    if file is None:
        return
    if file.is_dir():
        raise IsADirectoryError(f"{file} is a folder; expected the name of a file")
    if not file.absolute().parent.is_dir():
        raise FileNotFoundError(f"{file.absolute().parent} does not exist; make the folder first")


def given(values: dict[str, Any]) -> dict[str, Any]:
    """Leaves out the options that were not given, so that the dataclass fills in its defaults."""
    return {name: value for name, value in values.items() if value is not None}


def _option(field: "dataclasses.Field[Any]", hint: Any, text: str) -> Callable[[Command], Command]:
    default = field.default
    if hint is bool:
        flag = _flag(field.name)
        return click.option(
            f"{flag}/--no-{flag[2:]}", field.name, default=None, help=text, show_default=False
        )
    kind, nargs = _kind(hint)
    if isinstance(default, tuple):
        default = " ".join(map(str, default))
    is_shown = default is not None and default is not dataclasses.MISSING
    return click.option(
        _flag(field.name),
        field.name,
        type=kind,
        nargs=nargs,
        metavar=" ".join([kind.__name__.upper()] * nargs) if nargs > 1 else None,
        help=_help(text, can_be_none=default is None)
        + (f"  [default: {default}]" if is_shown else ""),
    )


def _help(text: str, *, can_be_none: bool) -> str:
    """A field's comment in the words of the command line, where None is what nobody gives."""
    if not can_be_none:
        text = "; ".join(part for part in text.split("; ") if "None" not in part)
    text = text.replace("where None", "by default")
    return re.sub(r"\b[a-z]+(?:_[a-z]+)+\b", lambda match: _flag(match[0]), text)


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _kind(hint: Any) -> tuple[Any, int]:
    """The click type of one value, and how many values an option takes."""
    if isinstance(hint, UnionType):
        (hint,) = (part for part in get_args(hint) if part is not NoneType)
    if get_origin(hint) is Literal:
        return click.Choice(get_args(hint)), 1
    if get_origin(hint) is tuple:
        return get_args(hint)[0], len(get_args(hint))
    return hint, 1


def _comments(settings: type) -> dict[str, str]:
    """The comment on the last line of each field's definition."""
    source = inspect.cleandoc("\n" + inspect.getsource(settings))
    comments = {
        token.start[0]: token.string.lstrip("# ")
        for token in tokenize.generate_tokens(io.StringIO(source).readline)
        if token.type == tokenize.COMMENT
    }
    definition = ast.parse(source).body[0]
    assert isinstance(definition, ast.ClassDef)
    return {
        node.target.id: comments[node.end_lineno]
        for node in definition.body
        if isinstance(node, ast.AnnAssign)
        and isinstance(node.target, ast.Name)
        and node.end_lineno in comments
    }
