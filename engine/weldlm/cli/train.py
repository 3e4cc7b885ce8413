"""`weldlm train`: from text to a model folder."""

import dataclasses
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from weldlm.cli.model_folder import (
    default_device,
    describe_training,
    draw_curve,
    keep_model,
    require_run_folder,
)
from weldlm.cli.options import config_option, device_option, given, settings_options
from weldlm.cli.training_corpus import DEFAULT_HELD_OUT, Texts, find_tokenizer, prepare_once
from weldlm.cli.vocabulary import vocab_size_option
from weldlm.train_settings import TrainSettings

if TYPE_CHECKING:
    from weldlm.callbacks import Callback
    from weldlm.config import ModelConfig
    from weldlm.data.prepare import Corpus
    from weldlm.distributed import Ranks
    from weldlm.heads import Model
    from weldlm.pretraining import PretrainSettings

__all__ = ["train"]

_FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command(short_help="Train a language model on text.")
@click.option(
    "--data",
    required=True,
    type=click.Path(path_type=Path),
    help="Text file, .jsonl file or folder of them; `stdlib`, Python's own source; or a corpus of "
    "`weldlm data`.",
)
@click.option("--out", required=True, type=_FOLDER, help="Folder of the run.")
@click.option(
    "--model",
    default="gpt2-tiny",
    show_default=True,
    help="Name of a preset, whose weights are drawn, or the folder of a model to go on from. "
    "Decoders learn to write the next token, encoders hidden tokens (masked language modeling), "
    "encoder-decoders hidden spans.",
)
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
    type=float,
    help=f"Share of the documents kept for validation.  [default: {DEFAULT_HELD_OUT}]",
)
@device_option
@click.option("--resume", is_flag=True, help="Go on from the newest valid checkpoint in --out.")
@click.option(
    "--hidden-share",
    type=float,
    help="Share of the text that encoders and encoder-decoders are asked for.  [default: 0.15]",
)
@click.option("--whole-words", is_flag=True, help="Encoders are asked for whole words.")
@click.option(
    "--mean-span", type=float, help="Tokens behind a sentinel of encoder-decoders.  [default: 3]"
)
@click.option("--tensorboard", is_flag=True, help="Write OUT/tensorboard too.")
@click.option("--profile", is_flag=True, help="Write OUT/trace.json, a Chrome trace of 3 steps.")
@settings_options(TrainSettings)
@config_option
def train(
    data: Path,
    out: Path,
    model: str,
    tokenizer_path: Path | None,
    vocab_size: int | None,
    context_length: int | None,
    held_out: float | None,
    device: str | None,
    resume: bool,
    hidden_share: float | None,
    whole_words: bool,
    mean_span: float | None,
    tensorboard: bool,
    profile: bool,
    **options: Any,
) -> int:
    """Train a language model on text.

    The folder --out receives the model (a Hugging Face folder), the tokens, the checkpoints,
    metrics.jsonl and loss.svg. Ctrl-C saves a checkpoint; --resume goes on from it.

    \b
    Examples:
      weldlm train --data corpus.txt --out run --steps 500
      weldlm train --data corpus.txt --out run --model bert-tiny --epochs 3 --hidden-share 0.3
      weldlm train --config run.toml --lr 1e-3
    """
    from weldlm.distributed import join_ranks
    from weldlm.pretraining import PretrainSettings

    if tokenizer_path is not None and vocab_size is not None:
        raise click.UsageError("--vocab-size is of a tokenizer to learn; give it or --tokenizer")
    settings = TrainSettings(**given(options))
    asked = given({"hidden_share": hidden_share, "mean_span": mean_span})
    hidden = PretrainSettings(whole_words=whole_words, **asked)
    device = default_device(device)
    texts = Texts(data, out, held_out, tokenizer_path, vocab_size)
    with join_ranks(device, settings.parallel) as ranks:
        ranks.ask_first(lambda: require_run_folder(out, resume=resume))
        built, corpus = _build(model, context_length, texts, settings, hidden, device, ranks)
        callbacks = _callbacks(out, tensorboard=tensorboard, profile=profile)
        return _fit(built, data, corpus, settings, hidden, out, resume, ranks, callbacks)


def _build(
    model: str,
    context_length: int | None,
    texts: Texts,
    settings: TrainSettings,
    hidden: "PretrainSettings",
    device: str,
    ranks: "Ranks",
) -> tuple["Model", "Corpus"]:
    from weldlm.pretraining import adapt_config, build_objective

    config, folder = _find_model(model, context_length)
    _check_lengths(settings, config)
    tokenizer = find_tokenizer(config, texts, folder)
    _check_memory(
        config, settings, device, texts.vocab_size if tokenizer is None else tokenizer.vocab_size
    )
    if tokenizer is not None:
        build_objective(config, tokenizer, hidden, seed=settings.seed)  # names what it lacks
    corpus = prepare_once(config, texts, tokenizer, ranks)
    if folder is None:
        config = adapt_config(config, corpus.tokenizer)
    return _build_model(config, folder, settings, device), corpus


def _callbacks(out: Path, *, tensorboard: bool, profile: bool) -> "list[Callback]":
    from weldlm.profile_callback import ProfileCallback
    from weldlm.progress import progress_callback
    from weldlm.tensorboard_callback import TensorBoardCallback

    callbacks: list[Callback] = [progress_callback()]
    if tensorboard:
        callbacks.append(TensorBoardCallback(out / "tensorboard"))
    if profile:
        callbacks.append(ProfileCallback(out / "trace.json"))
    return callbacks


def _find_model(model: str, context_length: int | None) -> tuple["ModelConfig", Path | None]:
    """The configuration of a preset, or of a folder with the folder."""
    from weldlm.config import PRESETS, preset
    from weldlm.weights import load_config

    path = Path(model)
    if model in PRESETS or not path.exists():
        return preset(model, **given({"context_length": context_length})), None
    if context_length is not None:
        raise click.UsageError("--context-length is of new models; leave it out")
    return load_config(path), path


def _build_model(
    config: "ModelConfig", folder: Path | None, settings: TrainSettings, device: str
) -> "Model":
    import torch

    from weldlm.heads import HEADS, language_head
    from weldlm.weights import load_pretrained

    kind = HEADS[language_head(config)]
    torch.manual_seed(settings.seed)
    if folder is not None:
        return load_pretrained(folder, kind, device=device, dtype=torch.float32)
    return kind(config).to(device)


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
    model: "Model",
    data: Path,
    corpus: "Corpus",
    settings: TrainSettings,
    hidden: "PretrainSettings",
    out: Path,
    resume: bool,
    ranks: "Ranks",
    callbacks: "list[Callback]",
) -> int:
    from weldlm.checkpoint import load_weights
    from weldlm.pretraining import build_objective
    from weldlm.trainer import Trainer

    trainer = Trainer(
        model,
        corpus.train,
        settings,
        out,
        objective=build_objective(model.config, corpus.tokenizer, hidden, seed=settings.seed),
        valid=corpus.valid,
        callbacks=callbacks,
    )
    # "auto": a run may have been stopped before its first checkpoint
    result = trainer.fit(resume="auto" if resume else False)
    if not ranks.is_first:
        return result.exit_code
    row = {"step": result.step, "checkpoint": str(result.checkpoint)}
    if not result.is_interrupted:
        if settings.parallel == "fsdp" and ranks.world_size > 1:  # it is in parts
            model = load_weights(result.checkpoint)
        about = describe_training("weldlm train", data, corpus, trainer.settings, result.valid)
        keep_model(model, corpus.tokenizer, out / "model", about)
        row["model"] = str(out / "model")
    draw_curve(out)
    click.echo(json.dumps(row))
    return result.exit_code
