"""Learning a vocabulary, with its progress."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

import click

from weldlm.cli.terminal import StepBar

if TYPE_CHECKING:
    from weldlm.tokenizer import Tokenizer

__all__ = ["DEFAULT_VOCAB_SIZE", "learn_tokenizer", "vocab_size_option"]

DEFAULT_VOCAB_SIZE = 8_192

vocab_size_option = click.option(
    "--vocab-size",
    type=click.IntRange(1, 1 << 31),
    help=f"Token ids to learn.  [default: {DEFAULT_VOCAB_SIZE:,}, or fewer if the text is short]",
)


def learn_tokenizer(texts: Iterable[str], vocab_size: int | None, **options: Any) -> "Tokenizer":
    """Learns a vocabulary; without a `vocab_size` a short text gets a smaller vocabulary.

    Args:
        texts: to learn from.
        vocab_size: as the user gave it.
        options: of `Tokenizer.train`.

    Raises:
        ValueError: the texts do not support `vocab_size` tokens.
    """
    from weldlm.tokenizer import Tokenizer

    wanted = vocab_size or DEFAULT_VOCAB_SIZE
    # the message of `Tokenizer.train` speaks of its option, which not all commands have
    has_frequency = "min_frequency" in options
    allow_smaller = vocab_size is None or not has_frequency
    with StepBar("learning the vocabulary") as bar:
        learned = Tokenizer.train(
            texts, wanted, allow_smaller=allow_smaller, progress=bar.update, **options
        )
    if learned.vocab_size < wanted and vocab_size is not None:
        raise ValueError(
            f"vocab_size is {vocab_size}, but these texts support {learned.vocab_size} tokens; "
            f"give more text, or ask for {learned.vocab_size} or fewer"
        )
    if learned.vocab_size < wanted:
        click.echo(f"the text supports a vocabulary of {learned.vocab_size:,} tokens", err=True)
    return learned
