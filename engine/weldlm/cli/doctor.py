"""`weldlm doctor`: proof on one's own model and data."""

import json
import sys
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from weldlm.doctor import Check
    from weldlm.heads import Model
    from weldlm.tokenizer import Tokenizer

__all__ = ["doctor"]

_MOST_DOCUMENTS = 64


@click.command(short_help="Prove on your own model and data that training is right.")
@click.argument("model")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    help="Text file, .jsonl file or folder; a little is enough. Or `stdlib`, Python's own source.",
)
@click.option(
    "--tokenizer",
    "tokenizer_path",
    type=click.Path(path_type=Path),
    help="File of a tokenizer, or folder of a model with one. Default: the model's.",
)
@click.option(
    "--transformers",
    "is_theirs",
    is_flag=True,
    help="Examine the model in transformers, with its own Trainer.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a check.")
def doctor(
    model: str, data: Path, tokenizer_path: Path | None, is_theirs: bool, as_json: bool
) -> int:
    """Measure on MODEL and your data what training promises; exit 0 only if all of it holds.

    MODEL is the folder or file of a model, or the name of a preset, whose weights are then drawn.
    Documents must not see each other, labels must stand where they belong, micro-batches must not
    change loss or gradient, kernels must agree with the reference, a resumed run must equal an
    uninterrupted one, and nothing may be padded.

    \b
    Examples:
      weldlm doctor run/model --data corpus.txt
      weldlm doctor ./bert-folder --data corpus.txt --transformers
    """
    from weldlm.data.corpus import read_documents, standard_library

    documents = standard_library() if str(data) == "stdlib" else read_documents(data)
    texts = [document.text for document in islice(documents, _MOST_DOCUMENTS)]
    run = _examine_theirs if is_theirs else _examine_ours
    checks = run(model, tokenizer_path, texts)
    for check in checks:
        _print(check, as_json)
    failed = sum(not check.passed for check in checks)
    if not as_json:
        click.echo(f"{len(checks) - failed} of {len(checks)} checks passed")
    return 1 if failed else 0


def _examine_ours(model: str, tokenizer_path: Path | None, texts: list[str]) -> "list[Check]":
    from weldlm.doctor import examine

    built, tokenizer = _load(model, tokenizer_path)
    return examine(built, tokenizer, texts, report=_say)


def _load(model: str, tokenizer_path: Path | None) -> tuple["Model", "Tokenizer"]:
    import torch

    from weldlm.cli.model_folder import load_tokenizer
    from weldlm.config import preset
    from weldlm.heads import HEADS, language_head
    from weldlm.pretraining import adapt_config
    from weldlm.weights import load_config, load_pretrained

    path = Path(model)
    if path.exists():
        head = language_head(load_config(path))
        tokenizer = load_tokenizer(tokenizer_path or path)
        return load_pretrained(path, HEADS[head], dtype=torch.float32), tokenizer
    if tokenizer_path is None:
        preset(model)  # names the presets where there is no such
        raise click.UsageError("a preset has no tokenizer; give --tokenizer")
    tokenizer = load_tokenizer(tokenizer_path)
    config = adapt_config(preset(model), tokenizer)
    torch.manual_seed(0)
    return HEADS[language_head(config)](config), tokenizer


def _examine_theirs(model: str, tokenizer_path: Path | None, texts: list[str]) -> "list[Check]":
    try:
        import transformers
    except ImportError as error:
        raise click.UsageError(
            "--transformers needs that library; pip install transformers accelerate"
        ) from error
    from weldlm.cli.model_folder import load_tokenizer
    from weldlm.doctor import examine_theirs

    config = transformers.AutoConfig.from_pretrained(model)
    architecture = (getattr(config, "architectures", None) or [""])[0]
    kind = getattr(transformers, architecture, None)
    if kind is None:
        raise ValueError(f"{model} names no architecture that transformers has; expected one")
    tokenizer = load_tokenizer(tokenizer_path or Path(model))
    return examine_theirs(
        kind.from_pretrained(model),
        tokenizer.encode_ordinary,
        texts,
        pad_id=tokenizer.pad_id or 0,
        report=_say,
    )


def _say(name: str) -> None:
    print(f"checking: {name}", file=sys.stderr, flush=True)


def _print(check: "Check", as_json: bool) -> None:
    if as_json:
        row = {"check": check.name, "passed": check.passed, "figure": check.figure}
        click.echo(json.dumps({**row, "advice": "" if check.passed else check.advice}))
        return
    click.echo(f"{'pass' if check.passed else 'FAIL'}  {check.name}: {check.figure}")
    if not check.passed:
        click.echo(f"      {check.advice}")
