"""`weldlm tokenizer`: learn vocabularies and try them."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from weldlm.cli.model_folder import load_tokenizer
from weldlm.cli.vocabulary import learn_tokenizer, vocab_size_option

if TYPE_CHECKING:
    from weldlm.tokenizer.tokenizer import Format

__all__ = ["tokenizer"]

_tokenizer_option = click.option(
    "--tokenizer",
    "path",
    required=True,
    type=click.Path(path_type=Path),
    help="File of any format that is read, or the folder of a model.",
)


@click.group(short_help="Learn vocabularies and try them.")
def tokenizer() -> None:
    """Learn vocabularies and try them."""


@tokenizer.command(short_help="Learn a vocabulary from text.")
@click.argument("inputs", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option(
    "--algorithm",
    type=click.Choice(["bpe", "wordpiece", "unigram"]),  # importing them would need numpy
    default="bpe",
    show_default=True,
    help="Byte-level BPE as GPT's, WordPiece as BERT's, Unigram as T5's.",
)
@vocab_size_option
@click.option(
    "--out",
    default=Path("tokenizer.json"),
    show_default=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="File to write; the `tokenizers` library reads it.",
)
@click.option(
    "--special-token",
    "special_tokens",
    multiple=True,
    help="In the order of ids, one an option, in place of those of the algorithm: "
    "<|endoftext|>; [PAD] [UNK] [CLS] [SEP] [MASK]; <unk> <s> </s>.",
)
@click.option(
    "--min-frequency",
    type=click.IntRange(1, 1 << 31),
    help="Rarest pair to merge; Unigram merges none.  [default: 2]",
)
@click.option("--threads", type=click.IntRange(1, 1 << 16), help="Default: all cores.")
def train(
    inputs: tuple[Path, ...],
    algorithm: str,
    vocab_size: int | None,
    out: Path,
    special_tokens: tuple[str, ...],
    min_frequency: int | None,
    threads: int | None,
) -> None:
    """Learn a vocabulary from INPUTS: text files, .jsonl files or folders.

    \b
    Examples:
      weldlm tokenizer train corpus.txt --vocab-size 16000 --out tokenizer.json
      weldlm tokenizer train texts/ --algorithm wordpiece --vocab-size 30000
    """
    from weldlm.atomic_file import require_writable
    from weldlm.data.corpus import read_documents, require_text

    if not out.parent.is_dir():
        raise FileNotFoundError(f"{out.parent} is not a folder; make it or change --out")
    require_writable(out.parent)
    documents = (document for path in inputs for document in read_documents(path))
    texts = (document.text for document in require_text(documents))
    learned = learn_tokenizer(
        texts,
        vocab_size,
        algorithm=algorithm,
        special_tokens=special_tokens or None,
        min_frequency=min_frequency,
        num_threads=threads,
    )
    learned.save(out)
    click.echo(f"{out}: {learned.vocab_size} tokens")


@tokenizer.command(short_help="Print the ids of a text.")
@_tokenizer_option
@click.argument("text", required=False)
@click.option("--allow-special", is_flag=True, help="Special tokens in the text take effect.")
@click.option("--plain", is_flag=True, help="Add no special tokens around the text.")
@click.option("--tokens", is_flag=True, help="A line for each token: its id and its text.")
def encode(path: Path, text: str | None, allow_special: bool, plain: bool, tokens: bool) -> None:
    """Print the ids of TEXT, by default of what stdin holds.

    Special tokens in the text are plain text without --allow-special.

    \b
    Example: weldlm tokenizer encode --tokenizer tokenizer.json "def main():"
    """
    loaded = load_tokenizer(path)
    ids = loaded.encode(
        sys.stdin.read() if text is None else text,
        add_special_tokens=not plain,
        allowed_special="all" if allow_special else (),
        disallowed_special=(),
    )
    if not tokens:
        click.echo(" ".join(map(str, ids)))
        return
    for token_id in ids:
        click.echo(f"{token_id}\t{_shown(loaded.id_to_token(token_id))}")


@tokenizer.command(short_help="Print the text of ids.")
@_tokenizer_option
@click.argument("ids", nargs=-1, type=int)
@click.option("--skip-special-tokens", is_flag=True, help="Leave special tokens out.")
def decode(path: Path, ids: tuple[int, ...], skip_special_tokens: bool) -> None:
    """Print the text of IDS, by default of the numbers that stdin holds.

    \b
    Example: weldlm tokenizer decode --tokenizer tokenizer.json 262 1388 12
    """
    text = load_tokenizer(path).decode(ids or _numbers(), skip_special_tokens=skip_special_tokens)
    click.echo(text)


@tokenizer.command(short_help="Print what a tokenizer is.")
@_tokenizer_option
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def info(path: Path, as_json: bool) -> None:
    """Print type, size and special tokens of a tokenizer.

    \b
    Example: weldlm tokenizer info --tokenizer model/
    """
    loaded = load_tokenizer(path)
    facts = {
        "type": loaded.algorithm,
        "vocab_size": loaded.vocab_size,
        "special_tokens": loaded.special_tokens,
        "roles": dict(loaded.config.roles),
        "has_chat_template": bool(loaded.config.chat_templates),
    }
    if as_json:
        click.echo(json.dumps(facts))
        return
    click.echo(f"type: {loaded.algorithm}\nvocab size: {loaded.vocab_size}")
    roles = {token: role for role, token in loaded.config.roles.items()}
    click.echo("special tokens:" + ("" if loaded.special_tokens else " none"))
    for token, token_id in loaded.special_tokens.items():
        click.echo(f"  {token_id}\t{token}" + (f"\t{roles[token]}" if token in roles else ""))
    if loaded.config.chat_templates:
        click.echo("chat templates: " + ", ".join(loaded.config.chat_templates))


@tokenizer.command(short_help="Write a tokenizer in another format.")
@_tokenizer_option
@click.option(
    "--format",
    "file_format",
    type=click.Choice(["tokenizer.json", "tiktoken", "vocab.txt"]),
    default="tokenizer.json",
    show_default=True,
    help="tiktoken is for ranks of byte-level BPE, vocab.txt for WordPiece.",
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, dir_okay=False), help="File to write."
)
def convert(path: Path, file_format: "Format", out: Path) -> None:
    """Write a tokenizer in another format; what that cannot say is refused.

    \b
    Example: weldlm tokenizer convert --tokenizer spiece.model --out tokenizer.json
    """
    if not out.parent.is_dir():
        raise FileNotFoundError(f"{out.parent} is not a folder; make it or change --out")
    load_tokenizer(path).save(out, format=file_format)
    click.echo(out)


def _numbers() -> list[int]:
    words = sys.stdin.read().split()
    wrong = [word for word in words if not (word.isascii() and word.isdigit())]
    if wrong:
        raise ValueError(f"stdin holds {wrong[0][:40]!r}; expected ids with spaces between them")
    return [int(word) for word in words]


def _shown(token: bytes) -> str:
    """The text of a token in one line; bytes that are no whole characters as hexadecimal digits."""
    text = token.decode("utf-8", "backslashreplace")
    return text.replace("\n", "\\n").replace("\r", "\\r").replace("\t", "\\t")
