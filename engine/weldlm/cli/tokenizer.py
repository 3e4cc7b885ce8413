"""`weldlm tokenizer`: build vocabularies."""

from pathlib import Path

import click

from weldlm.cli.vocabulary import learn_tokenizer, vocab_size_option

__all__ = ["tokenizer"]


@click.group(short_help="Build and try vocabularies.")
def tokenizer() -> None:
    """Build and try vocabularies."""


@tokenizer.command(short_help="Learn a vocabulary from text.")
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@vocab_size_option
@click.option(
    "--out",
    default=Path("tokenizer.json"),
    show_default=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write; the `tokenizers` library reads it.",
)
@click.option(
    "--min-frequency",
    default=2,
    show_default=True,
    type=click.IntRange(1, 1 << 31),
    help="Rarest pair to merge.",
)
@click.option("--threads", type=click.IntRange(min=1), help="Default: all cores.")
def train(
    inputs: tuple[Path, ...],
    vocab_size: int | None,
    out: Path,
    min_frequency: int,
    threads: int | None,
) -> None:
    """Learn a byte-level BPE vocabulary from INPUTS: text files, .jsonl files or folders.

    \b
    Example: weldlm tokenizer train corpus.txt --vocab-size 16000 --out tokenizer.json
    """
    from weldlm.data.corpus import read_documents

    if not out.parent.is_dir():
        raise FileNotFoundError(f"{out.parent} is not a folder; make it or change --out")
    texts = (document.text for path in inputs for document in read_documents(path))
    learned = learn_tokenizer(texts, vocab_size, min_frequency=min_frequency, num_threads=threads)
    learned.save(out)
    click.echo(f"{out}: {learned.vocab_size} tokens")
