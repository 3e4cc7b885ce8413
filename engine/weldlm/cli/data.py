"""`weldlm data`: from files of text to a corpus that `weldlm train` takes."""

import json
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import click

from weldlm.cli.model_folder import load_tokenizer
from weldlm.cli.option_groups import GroupedCommand, add_options, option_of
from weldlm.cli.options import config_option, given
from weldlm.cli.terminal import StepBar
from weldlm.cli.vocabulary import DEFAULT_VOCAB_SIZE, learn_tokenizer, vocab_size_option

if TYPE_CHECKING:
    from weldlm.data.pipeline import Learner
    from weldlm.tokenizer import Tokenizer

__all__ = ["data"]

_PATH = click.Path(path_type=Path)
# a preset whose kind tells the vocabulary and the frame
_PRESETS = {"decoder": "gpt2-tiny", "encoder": "bert-tiny", "encoder-decoder": "t5-tiny"}

_reading = partial(option_of, "Reading")
_cleaning = partial(option_of, "Cleaning")

_READING = (
    _reading("--text-column", help="Column that holds the texts.  [default: by its usual name]"),
    _reading(
        "--separator",
        help='Line between the documents of a text file; "" for empty lines.  [default: a file '
        "is a document]",
    ),
    _reading(
        "--include",
        multiple=True,
        help="Pattern of names of the files to take from folders, such as *.log; may be repeated.",
    ),
    _reading(
        "--on-error",
        type=click.Choice(["stop", "skip"]),
        help="What becomes of files and rows that cannot be read.  [default: stop]",
    ),
)
_CLEANING = (
    _cleaning("--repair", is_flag=True, default=None, help="Mend text decoded wrongly, with ftfy."),
    _cleaning(
        "--normalization",
        type=click.Choice(["none", "nfc", "nfkc"]),
        help="Unicode form of the text.  [default: nfc]",
    ),
    _cleaning(
        "--keep-control-characters", is_flag=True, default=None, help="Which are removed else."
    ),
    _cleaning(
        "--language",
        "languages",
        multiple=True,
        help="Code, such as en, of a language whose texts stay; may be repeated.  [default: all]",
    ),
    _cleaning("--language-confidence", type=float, help="Least probability of it.  [default: 0]"),
    _cleaning(
        "--rule",
        "rules",
        multiple=True,
        help="gopher, c4, boilerplate, or one rule of --list-rules; may be repeated.",
    ),
    _cleaning("--without", multiple=True, help="Rule to leave out of a set; may be repeated."),
    _cleaning(
        "--redact",
        multiple=True,
        type=click.Choice(["email", "phone", "ip", "key"]),
        help="What gives way to a placeholder; may be repeated.",
    ),
    _cleaning(
        "--evaluation",
        multiple=True,
        help="File of an evaluation set; texts that share words with it go. May be repeated.",
    ),
    _cleaning("--overlap", type=int, help="Words in a row that are shared then.  [default: 13]"),
    _cleaning(
        "--duplicates",
        type=click.Choice(["keep", "exact", "near"]),
        help="Which texts that were there before are removed.  [default: exact]",
    ),
    _cleaning(
        "--similarity",
        type=float,
        help="Share of runs of 5 words that near duplicates have in common.  [default: 0.8]",
    ),
)
_SHOWN = 3  # bad rows on the terminal
_OF_CLEANING = (
    "repair",
    "normalization",
    "keep_control_characters",
    "languages",
    "language_confidence",
    "rules",
    "without",
    "redact",
    "evaluation",
    "overlap",
)


def _list_rules(context: click.Context, _parameter: click.Parameter, is_asked: bool) -> None:
    if not is_asked:
        return
    from weldlm.data.cleaning import RULE_SETS, RULES

    for name, members in RULE_SETS.items():
        click.echo(f"{name}: {', '.join(members)}")
    for rule in RULES.values():
        click.echo(f"{rule.name:20} removes {rule.about}")
    context.exit()


@click.command(cls=GroupedCommand, short_help="Make a corpus of text to train on.")
@click.option(
    "--data",
    required=True,
    multiple=True,
    help="File or folder; or `stdlib`, Python's own source. May be repeated.",
)
@click.option(
    "--out", required=True, type=click.Path(path_type=Path, file_okay=False), help="Folder to make."
)
@click.option(
    "--kind",
    type=click.Choice(list(_PRESETS)),
    default="decoder",
    show_default=True,
    help="Kind of model that will learn from it.",
)
@click.option(
    "--tokenizer",
    type=_PATH,
    help="File of a tokenizer, or folder of a model with one. Default: it learns from the data.",
)
@vocab_size_option
@click.option("--held-out", type=float, help="Share kept for validation.  [default: 0.02]")
@click.option("--workers", type=click.IntRange(1), help="Processes that clean.  [default: cores]")
@click.option("--replace", is_flag=True, help="Make --out anew though its settings were others.")
@add_options(*_READING, *_CLEANING)
@click.option(
    "--list-rules",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_list_rules,
    help="Say what the rules are, and stop.",
)
@config_option
def data(
    data: tuple[str, ...],
    out: Path,
    kind: str,
    tokenizer: Path | None,
    vocab_size: int | None,
    workers: int | None,
    replace: bool,
    **options: Any,
) -> int:
    """Make a corpus of text to train on.

    Reads text, Markdown, source code, HTML, .jsonl, .csv, .tsv (plain, .gz or .zst), Parquet, and
    datasets that Hugging Face's package saved; cleans it, removes duplicates, splits and encodes
    it. Writes token shards, their tokenizer and a report to --out.

    Run it again after a Ctrl-C, a kill or with more files: what is done is not done again. The
    folder OUT.work keeps it, and may be removed.

    \b
    Examples:
      weldlm data --data texts/ --out corpus
      weldlm data --data web/ --out corpus --rule gopher --language en --redact email
      weldlm train --data corpus --out run
    """
    from weldlm.data.cleaning import CleanSettings
    from weldlm.data.pipeline import DataSettings, prepare_data

    if tokenizer is not None and vocab_size is not None:
        raise click.UsageError("--vocab-size is of a tokenizer to learn; give it or --tokenizer")
    chosen = given(options)
    cleaning = {name: chosen.pop(name) for name in _OF_CLEANING if name in chosen}
    settings = DataSettings(cleaning=CleanSettings(**cleaning), frame=kind == "decoder", **chosen)
    with _Stages() as stages:
        report = prepare_data(
            data,
            out,
            settings,
            tokenizer=_tokenizer(kind, tokenizer, vocab_size),
            num_workers=workers,
            replace=replace,
            notify=stages.update,
        )
    _warn(report)
    click.echo(json.dumps({"out": str(out), **_summary(report)}))
    return 0


def _tokenizer(kind: str, path: Path | None, vocab_size: int | None) -> "Tokenizer | Learner":
    from weldlm.data.pipeline import Learner

    if path is not None:
        return load_tokenizer(path)
    size = DEFAULT_VOCAB_SIZE if vocab_size is None else vocab_size
    learn = partial(learn_tokenizer, vocab_size=vocab_size, **_learner_options(kind))
    return Learner(learn, f"of {size} tokens for a model of kind {kind}")


def _learner_options(kind: str) -> dict[str, Any]:
    if kind == "decoder":
        return {}
    from weldlm.config import preset
    from weldlm.pretraining import tokenizer_options

    return tokenizer_options(preset(_PRESETS[kind]))


class _Stages:
    """A bar for each stage of the work."""

    def __init__(self) -> None:
        self._stage = ""
        self._bar: StepBar | None = None

    def __enter__(self) -> Self:
        return self

    def update(self, stage: str, done: int, total: int) -> None:
        if stage != self._stage:
            self.close()
            self._stage, self._bar = stage, StepBar(stage).__enter__()
        if self._bar is not None:
            self._bar.update(done, total)
        if done == total:
            self.close()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.__exit__(None, None, None)
            self._bar = None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def _warn(report: dict[str, Any]) -> None:
    sources = report["sources"]
    if sources["left_out"]:
        kinds = ", ".join(f"{count} {name}" for name, count in sources["left_out"].items())
        click.echo(f"left out, of unknown kinds: {kinds}; --include reads them as text", err=True)
    for row in sources["first_bad"][:_SHOWN]:
        click.echo(f"left out: {row['place']}: {row['error']}", err=True)
    if sources["bad"] > _SHOWN:
        click.echo(f"left out: {sources['bad'] - _SHOWN} more; report.json names them", err=True)
    if "valid" not in report["splits"]:
        click.echo("no document fell to validation; raise --held-out to keep some", err=True)


def _summary(report: dict[str, Any]) -> dict[str, Any]:
    removed = {name: step["removed"] for name, step in report["steps"].items() if step["removed"]}
    return {
        "documents": report["documents"],
        "removed": removed,
        "bad": report["sources"]["bad"],
        **{
            name: {"documents": split["documents"], "tokens": split["tokens"]}
            for name, split in report["splits"].items()
        },
    }
