"""Options of the commands that generate: each field has one, and what is given arrives."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from tests.engine.tiny_models import tiny_model
from weldlm.batch_limits import BatchLimits
from weldlm.cli import main
from weldlm.cli.chat import chat
from weldlm.cli.generate import generate as command
from weldlm.cli.model_folder import keep_model
from weldlm.cli.option_types import as_bias, as_bytes, as_ids
from weldlm.cli.serve import serve
from weldlm.completion import Completion
from weldlm.completion_fields import completion_fields
from weldlm.generation import complete, generate
from weldlm.prompt import Prompt
from weldlm.sampling_settings import SamplingSettings
from weldlm.tokenizer import Tokenizer

TOKENIZER = Tokenizer.train(["some text " * 50], 262)
MODEL = tiny_model(vocab_size=TOKENIZER.vocab_size)
NOT_STREAMED = {"n", "best_of", "num_beams", "length_penalty", "early_stopping", "logprobs"}


@pytest.fixture(name="folder", scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("options")
    keep_model(MODEL, TOKENIZER, folder / "model")
    return folder


def field_names(settings: type) -> set[str]:
    return {field.name for field in dataclasses.fields(settings)}


def option_names(asked: click.Command) -> set[str]:
    return {parameter.name for parameter in asked.params if parameter.name}


def printed_row(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str]
) -> dict[str, Any]:
    model = ["--model", str(folder / "model"), "--prompt", "some", "--json"]
    with pytest.raises(SystemExit) as exit_:
        main(["generate", *model, "--max-tokens", "6", *options])
    captured = capsys.readouterr()
    assert exit_.value.code == 0, captured.err
    return dict(json.loads(captured.out))


def as_row(completion: Completion) -> dict[str, Any]:
    row = {"index": 0, "prompt": "some", **completion_fields(completion)}
    return dict(json.loads(json.dumps(row)))


def test_every_setting_and_limit_has_an_option() -> None:
    assert field_names(SamplingSettings) | field_names(BatchLimits) <= option_names(command)
    streamed = field_names(SamplingSettings) - NOT_STREAMED - {"prompt_logprobs"}
    assert streamed <= option_names(chat)
    assert field_names(BatchLimits) <= option_names(serve)


def test_help_begins_with_what_is_common() -> None:
    lines = CliRunner().invoke(command, ["--help"]).output.splitlines()

    titles = [line for line in lines if line.endswith(":") and not line.startswith(" ")]
    assert titles == [
        "Options:",
        "Files of prompts:",
        "Scores of tokens:",
        "End of a completion:",
        "Several completions, log-probabilities:",
        "Memory and speed:",
    ]


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        pytest.param(
            "--temperature 0.9 --typical-p 0.8 --min-p 0.01 --n 2 --best-of 3 --logprobs 2",
            {"temperature": 0.9, "typical_p": 0.8, "min_p": 0.01, "n": 2, "best_of": 3}
            | {"logprobs": 2},
            id="samples",
        ),
        pytest.param(
            "--num-beams 3 --n 2 --length-penalty 0.5 --early-stopping never",
            {"num_beams": 3, "n": 2, "length_penalty": 0.5, "early_stopping": "never"},
            id="beams",
        ),
        pytest.param(
            "--repetition-penalty 1.5 --presence-penalty 0.4 --frequency-penalty 0.3 "
            "--no-repeat-ngram 2 --logit-bias 70=2.5 --logit-bias 71=-1 --bad-ids 80,81 "
            "--bad-words text --prompt-logprobs 0",
            {"repetition_penalty": 1.5, "presence_penalty": 0.4, "frequency_penalty": 0.3}
            | {"no_repeat_ngram": 2, "logit_bias": ((70, 2.5), (71, -1.0)), "bad_ids": ((80, 81),)}
            | {"bad_words": ("text",), "prompt_logprobs": 0},
            id="rules",
        ),
        pytest.param(
            "--allowed-ids 97,98,99 --stop-ids 98 --min-tokens 3 --ignore-eos --stop aa",
            {"allowed_ids": (97, 98, 99), "stop_ids": (98,), "min_tokens": 3}
            | {"ignore_eos": True, "stop": ("aa",)},
            id="ends",
        ),
    ],
)
def test_settings_that_are_given_arrive(
    folder: Path, capsys: pytest.CaptureFixture[str], options: str, settings: dict[str, Any]
) -> None:
    row = printed_row(folder, capsys, options.split())

    asked = SamplingSettings(max_tokens=6, **settings)
    (expected,) = generate(MODEL, TOKENIZER, ["some"], asked, batch_size=4)
    assert row == as_row(expected)


def test_limits_that_are_given_arrive(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = "--cache-dtype int8 --block-size 4 --cache-bytes 64K --prefill-chunk 2 --logprobs 1"

    row = printed_row(folder, capsys, [*options.split(), "--no-pack-weights"])

    limits = BatchLimits(
        batch_size=1, cache_dtype="int8", block_size=4, prefill_chunk=2, packs_weights=False
    )
    settings = SamplingSettings(max_tokens=6, logprobs=1)
    prompts = [Prompt(0, TOKENIZER.encode("some"))]
    ((_, expected),) = complete(MODEL, TOKENIZER, prompts, settings, limits=limits)
    assert row == as_row(expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--prompt a --cache-bytes 3", "--cache-bytes is 3; expected at least"),
        ("--prompt a --max-length 0", "--max-length is 0; expected at least 1"),
        ("--prompt a --cache-bytes much", "'much' is no number of bytes"),
        ("--prompt a --logprobs 2", "--logprobs is no part of a text; expected --json with it"),
        ("--prompt a --n 2 --temperature 1", "--n is 2; expected 1 for a text that is streamed"),
        ("-i a.txt -o b.jsonl --json", "--json goes with --prompt"),
        ("--prompt a --num-beams 2 --temperature 1", "temperature is 1.0 with --num-beams 2"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str], options: str, message: str
) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(["generate", "--model", str(folder / "model"), *options.split()])

    error = capsys.readouterr().err
    assert exit_.value.code == 2
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.parametrize(
    ("text", "number"),
    [("512", 512), ("1.5k", 1536), ("2 MB", 2 << 20), ("3GiB", 3 << 30), ("1T", 1 << 40)],
)
def test_bytes_have_units(text: str, number: int) -> None:
    assert as_bytes(text) == number


@pytest.mark.parametrize("text", ["", "5,", "a", "-1", "1;2"])
def test_what_is_no_list_of_ids_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"are no ids; expected such as 5,7,11"):
        as_ids(text)


@pytest.mark.parametrize("text", ["5", "a=1", "5=b", "-5=1", "5="])
def test_what_is_no_bias_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter, match=r"is no bias; expected an id and a number"):
        as_bias(text)
