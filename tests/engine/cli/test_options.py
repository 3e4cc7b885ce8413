"""Options of a settings dataclass: what their help says can be done on the command line."""

from dataclasses import dataclass
from typing import Any

import click
import pytest
from click.testing import CliRunner

from weldlm.cli.options import given, settings_options
from weldlm.train_settings import TrainSettings


@dataclass(frozen=True)
class Settings:
    """Four kinds of fields."""

    num_rows: int = 3  # rows
    row_length: int | None = None  # tokens of one of num_rows; the model's where None
    clip_norm: float | None = 1.5  # largest norm; unlimited where None
    betas: tuple[float, float] = (0.9, 0.95)  # decay of both averages
    is_slow: bool = False  # take your time


@click.command()
@settings_options(Settings)
def command(**options: Any) -> None:
    click.echo(repr(Settings(**given(options))))


@pytest.mark.parametrize(
    "line",
    [
        "--num-rows INTEGER rows [default: 3]",
        "--row-length INTEGER tokens of one of --num-rows; the model's by default",
        "--clip-norm FLOAT largest norm [default: 1.5]",
        "--betas FLOAT FLOAT decay of both averages [default: 0.9 0.95]",
        "--is-slow / --no-is-slow take your time",
    ],
)
def test_help_of_a_field_speaks_of_options(line: str) -> None:
    output = CliRunner().invoke(command, ["--help"]).output

    assert line in " ".join(output.split())


def test_no_help_of_training_speaks_of_python() -> None:
    training = settings_options(TrainSettings)(click.command()(lambda **_: None))

    helps = " ".join(str(option.help) for option in training.params)  # type: ignore[attr-defined]

    assert "None" not in helps
    assert "_" not in helps
    assert "weldlm." not in helps


def test_what_is_given_arrives_and_the_rest_is_the_default() -> None:
    result = CliRunner().invoke(command, ["--num-rows", "5", "--betas", "0.5", "0.6"])

    assert result.output == f"{Settings(num_rows=5, betas=(0.5, 0.6))!r}\n"


@pytest.mark.parametrize(
    ("arguments", "is_slow"), [(["--is-slow"], True), (["--no-is-slow"], False), ([], False)]
)
def test_switch_is_on_where_it_is_given(arguments: list[str], is_slow: bool) -> None:
    result = CliRunner().invoke(command, arguments)

    assert result.output == f"{Settings(is_slow=is_slow)!r}\n"
