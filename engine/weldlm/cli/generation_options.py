"""Options of the commands that generate: the fields of `SamplingSettings` and `BatchLimits`.

An option that is not given arrives as None, or empty where it may be repeated.
"""

import dataclasses
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import click

from weldlm.cli.option_groups import option_of
from weldlm.cli.option_types import as_bias, as_bytes, as_ids
from weldlm.cli.options import given

if TYPE_CHECKING:
    from weldlm.batch_limits import BatchLimits
    from weldlm.sampling_settings import SamplingSettings

__all__ = [
    "COMMON_SAMPLING",
    "END",
    "MEMORY",
    "PREFIXES",
    "SCORES",
    "SEVERAL",
    "limits_of",
    "settings_of",
]

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_scores = partial(option_of, "Scores of tokens")
_end = partial(option_of, "End of a completion")
_several = partial(option_of, "Several completions, log-probabilities")
_memory = partial(option_of, "Memory and speed")

COMMON_SAMPLING: tuple[Decorator, ...] = (
    click.option(
        "--temperature", type=float, help="0 takes the most probable token.  [default: 0]"
    ),
    click.option("--top-k", type=int, help="Keep the k most probable tokens; 0 keeps all."),
    click.option("--top-p", type=float, help="Keep the most probable ones up to this probability."),
    click.option(
        "--min-p", type=float, help="Keep tokens of this share of the best's probability."
    ),
    click.option("--repetition-penalty", type=float, help="Above 1 avoids tokens that there are."),
    click.option("--seed", type=int, help="Of the random draws.  [default: 0]"),
    click.option("--stop", multiple=True, help="Text that ends a completion; may be repeated."),
)

SCORES: tuple[Decorator, ...] = (
    _scores("--typical-p", type=float, help="Keep the most typical tokens up to this probability."),
    _scores("--presence-penalty", type=float, help="Taken off scores of new tokens that occurred."),
    _scores("--frequency-penalty", type=float, help="The same for each time that one occurred."),
    _scores("--no-repeat-ngram", type=int, help="No run of so many tokens occurs twice."),
    _scores(
        "--logit-bias",
        multiple=True,
        type=as_bias,
        metavar="ID=NUMBER",
        help="Added to a score; may be repeated.",
    ),
    _scores("--allowed-ids", type=as_ids, metavar="IDS", help="No token but these, as in 5,7,11."),
    _scores("--bad-words", multiple=True, help="Text that does not occur; may be repeated."),
    _scores(
        "--bad-ids",
        multiple=True,
        type=as_ids,
        metavar="IDS",
        help="Run that does not occur; may be repeated.",
    ),
)

END: tuple[Decorator, ...] = (
    _end("--min-tokens", type=int, help="Before so many new tokens nothing ends it."),
    _end(
        "--stop-ids", type=as_ids, metavar="IDS", help="Tokens that end it, beside the model's own."
    ),
    _end("--ignore-eos/--no-ignore-eos", default=None, help="The model's own end does not end it."),
)

SEVERAL: tuple[Decorator, ...] = (
    _several("--n", type=int, help="Completions of each prompt.  [default: 1]"),
    _several("--best-of", type=int, help="Sample so many and keep the n most probable ones."),
    _several("--num-beams", type=int, help="Beam search, above 1; the n best are kept."),
    _several("--length-penalty", type=float, help="Of beams; above 0 prefers long ones."),
    _several(
        "--early-stopping",
        type=click.Choice(["true", "false", "never"]),
        help="Of beams, as in transformers.  [default: false]",
    ),
    _several("--logprobs", type=int, help="Of each new token, and of so many of the best."),
    _several("--prompt-logprobs", type=int, help="The same for the prompt."),
)

PREFIXES: tuple[Decorator, ...] = (
    _memory(
        "--share-prefixes/--no-share-prefixes",
        "shares_prefixes",
        default=None,
        help="Compute equal beginnings of prompts once.  [default: yes]",
    ),
)

MEMORY: tuple[Decorator, ...] = (
    _memory("--max-batch-tokens", type=int, help="Most tokens in a step.  [default: 2048]"),
    _memory("--prefill-chunk", type=int, help="Most tokens of a prompt in a step."),
    _memory(
        "--cache-bytes", type=as_bytes, metavar="BYTES", help="For keys and values, such as 2GiB."
    ),
    _memory("--cache-dtype", type=click.Choice(["auto", "int8"]), help="Of keys and values."),
    _memory("--block-size", type=int, help="Tokens in a block of the cache.  [default: 16]"),
    _memory(
        "--pack-weights/--no-pack-weights",
        "packs_weights",
        default=None,
        help="Hold weights twice, for speed.  [default: in fp32 on a CPU]",
    ),
    _memory(
        "--batch-invariant/--no-batch-invariant",
        "is_batch_invariant",
        default=None,
        help="A row does not depend on its neighbors.  [default: on a CPU]",
    ),
)


def settings_of(options: dict[str, Any], **defaults: Any) -> "SamplingSettings":
    """The settings that options say; `defaults` hold for those that are not given."""
    from weldlm.sampling_settings import SamplingSettings

    early = {"true": True, "false": False, "never": "never", None: None}
    options = {**options, "early_stopping": early[options.get("early_stopping")]}
    return SamplingSettings(**{**defaults, **dict(_fields(options, SamplingSettings))})


def limits_of(options: dict[str, Any], **defaults: Any) -> "BatchLimits":
    """The limits that options say; `defaults` hold for those that are not given."""
    from weldlm.batch_limits import BatchLimits

    return BatchLimits(**{**defaults, **dict(_fields(options, BatchLimits))})


def _fields(options: dict[str, Any], settings: type) -> Iterator[tuple[str, Any]]:
    """What is given of the fields of a dataclass."""
    names = {field.name for field in dataclasses.fields(settings)}
    for name, value in given(options).items():
        if name in names:
            yield name, value
