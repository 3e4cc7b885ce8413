"""A command whose help lists its options in groups, the common ones first."""

from collections.abc import Callable
from typing import Any

import click

__all__ = ["GroupedCommand", "GroupedOption", "add_options", "option_of"]

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]

_COMMON = "Options"


class GroupedOption(click.Option):
    """An option that stands under a heading of its own."""

    def __init__(self, *arguments: Any, group: str = _COMMON, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self.group = group


class GroupedCommand(click.Command):
    """A command with options of several groups, in the order of their first ones."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        groups: dict[str, list[tuple[str, str]]] = {_COMMON: []}
        for parameter in self.get_params(ctx):
            record = parameter.get_help_record(ctx)
            if record is not None:
                title = parameter.group if isinstance(parameter, GroupedOption) else _COMMON
                groups.setdefault(title, []).append(record)
        for title, records in groups.items():
            with formatter.section(title):
                formatter.write_dl(records)


def option_of(group: str, *names: str, **details: Any) -> Decorator:
    """`click.option`, under a heading."""
    return click.option(*names, cls=GroupedOption, group=group, **details)


def add_options(*options: Decorator) -> Decorator:
    """Returns a decorator that adds options in their order."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add
