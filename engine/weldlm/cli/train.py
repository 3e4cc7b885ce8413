"""`weldlm train`: from text to a model folder."""

import dataclasses
import json
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weldlm.cli.model_folder import default_device, draw_curve, keep_model, load_tokenizer
from weldlm.cli.options import device_option, given, settings_options
from weldlm.cli.vocabulary import DEFAULT_VOCAB_SIZE, learn_tokenizer, vocab_size_option
from weldlm.train_settings import TrainSettings

if TYPE_CHECKING:
    from weldlm.config import ModelConfig
    from weldlm.data.prepare import Corpus
    from weldlm.tokenizer import Tokenizer

__all__ = ["train"]

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command(short_help="Train a language model on text.")
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    help="Text file, .jsonl file or folder of them; or `stdlib`, Python's own source.",
)
@click.option("--out", required=True, type=_FOLDER, help="Folder of the run.")
@click.option("--model", default="gpt2-tiny", show_default=True, help="Name of a preset.")
@click.option(
    "--tokenizer",
    "tokenizer_path",
    type=click.Path(path_type=Path),
    help="File of a tokenizer, or folder of a model with one. Default: it learns from the data.",
)
@vocab_size_option
@click.option(
    "--context-length", type=int, help="Most tokens in a sequence.  [default: the preset's]"
)
@click.option(
    "--held-out",
    default=0.02,
    show_default=True,
    help="Share of the documents kept for validation.",
)
@device_option
@click.option("--resume", is_flag=True, help="Go on from the newest valid checkpoint in --out.")
@settings_options(TrainSettings)
def train(
    data: Path,
    out: Path,
    model: str,
    tokenizer_path: Path | None,
    vocab_size: int | None,
    context_length: int | None,
    held_out: float,
    device: str | None,
    resume: bool,
    **options: Any,
) -> int:
    """Train a language model on text.

    The folder --out receives the model (a Hugging Face folder), the tokens, the checkpoints,
    metrics.jsonl and loss.svg. Ctrl-C saves a checkpoint; --resume goes on from it.

    \b
    Example: weldlm train --data corpus.txt --out run --steps 500
    """
    from weldlm.config import preset
    from weldlm.data.corpus import read_documents, standard_library
    from weldlm.data.prepare import prepare_corpus

    if tokenizer_path is not None and vocab_size is not None:
        raise click.UsageError("--vocab-size is of a tokenizer to learn; give it or --tokenizer")
    settings = TrainSettings(**given(options))
    _check_folder(out, resume=resume)
    device = default_device(device)
    config = preset(model, **given({"context_length": context_length}))
    _check_decoder(model, config)
    _check_lengths(settings, config)
    tokenizer = None if tokenizer_path is None else load_tokenizer(tokenizer_path)
    _check_memory(
        config, settings, device, vocab_size if tokenizer is None else tokenizer.vocab_size
    )
    corpus = prepare_corpus(
        standard_library() if str(data) == "stdlib" else list(read_documents(data)),
        out,
        held_out=held_out,
        tokenizer=partial(learn_tokenizer, vocab_size=vocab_size)
        if tokenizer is None
        else tokenizer,
        vocabulary=_describe_vocabulary(tokenizer, vocab_size),
    )
    return _fit(config, corpus, settings, out, device, resume)


def _describe_vocabulary(tokenizer: "Tokenizer | None", vocab_size: int | None) -> str:
    if tokenizer is None:
        return f"of size {DEFAULT_VOCAB_SIZE if vocab_size is None else vocab_size}"
    from weldlm.tokenizer.fingerprint import fingerprint

    return f"with fingerprint {fingerprint(tokenizer)[:12]}"


def _check_folder(out: Path, *, resume: bool) -> None:
    holds_something = out.is_dir() and any(out.iterdir())
    if resume and not holds_something:
        raise ValueError(f"{out} holds no run to go on from; leave out --resume to start one")
    if not resume and holds_something:
        raise ValueError(f"{out} is not empty; pass --resume to go on, or another --out")


def _check_decoder(model: str, config: "ModelConfig") -> None:
    from weldlm.config import PRESETS

    if not config.is_decoder:
        decoders = ", ".join(name for name, known in PRESETS.items() if known.is_decoder)
        raise ValueError(
            f"--model {model} is an encoder or has one; expected a decoder, one of {decoders}"
        )


def _check_lengths(settings: TrainSettings, config: "ModelConfig") -> None:
    """Before anything is written: rows that fit into the model, of two tokens or more."""
    if settings.row_length is not None and settings.row_length > config.context_length:
        raise ValueError(
            f"--row-length is {settings.row_length}; expected at most the context length "
            f"{config.context_length}; raise --context-length"
        )
    if config.context_length < 2:
        raise ValueError("--context-length is 1; expected at least 2, a token and its successor")


def _check_memory(
    config: "ModelConfig", settings: TrainSettings, device: str, vocab_size: int | None
) -> None:
    """Before anything is written; a vocabulary that will be learned counts as the smallest."""
    from weldlm.memory import require_training_memory

    smallest = dataclasses.replace(
        config, vocab_size=max(vocab_size or 1, 1), bos_id=None, eos_id=None
    )
    require_training_memory(smallest, settings, device)


def _fit(
    config: "ModelConfig",
    corpus: "Corpus",
    settings: TrainSettings,
    out: Path,
    device: str,
    resume: bool,
) -> int:
    import torch

    from weldlm.heads import CausalLM
    from weldlm.progress import progress_callback
    from weldlm.trainer import Trainer

    eos_id = corpus.tokenizer.eos_id
    config = dataclasses.replace(
        config, vocab_size=corpus.tokenizer.vocab_size, bos_id=eos_id, eos_id=eos_id
    )
    torch.manual_seed(settings.seed)
    model = CausalLM(config).to(device)
    trainer = Trainer(
        model, corpus.train, settings, out, valid=corpus.valid, callbacks=[progress_callback()]
    )
    # "auto": a run may have been stopped before its first checkpoint
    result = trainer.fit(resume="auto" if resume else False)
    row = {"step": result.step, "checkpoint": str(result.checkpoint)}
    if not result.is_interrupted:
        keep_model(model, corpus.tokenizer, out / "model")
        row["model"] = str(out / "model")
    draw_curve(out)
    click.echo(json.dumps(row))
    return result.exit_code
