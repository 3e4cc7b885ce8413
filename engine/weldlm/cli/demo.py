"""`weldlm demo`: the whole engine in a few minutes, on any machine and without a network."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from weldlm.cli.model_folder import (
    default_device,
    describe_training,
    draw_curve,
    keep_model,
)
from weldlm.cli.options import device_option
from weldlm.cli.terminal import StepBar
from weldlm.cli.vocabulary import DEFAULT_VOCAB_SIZE, learn_tokenizer

if TYPE_CHECKING:
    from weldlm.callbacks import TrainResult
    from weldlm.data.corpus import Document
    from weldlm.data.prepare import Corpus
    from weldlm.heads import CausalLM
    from weldlm.tokenizer import Tokenizer

__all__ = ["demo"]


@click.command(short_help="Train and try a small model here, in minutes.")
@click.option("--minutes", default=2.0, show_default=True, help="Time to train for.")
@click.option(
    "--out",
    default=Path("weldlm-demo"),
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder for the model, the loss curve and the checkpoints.",
)
@device_option
def demo(minutes: float, out: Path, device: str | None) -> int:
    """Train a small GPT on the source of Python's standard library and let it write code.

    Learns a vocabulary, trains for --minutes, compares held-out bits per byte with xz, completes
    three prompts, and times our kernels against the plain PyTorch reference. Ctrl-C keeps a
    checkpoint; the same command goes on from it.
    """
    from weldlm.data.corpus import standard_library
    from weldlm.data.prepare import hold_out, prepare_corpus
    from weldlm.demo import HELD_OUT, demo_settings

    device = default_device(device)
    demo_settings(device, minutes)  # checks them before anything is written
    documents = standard_library()
    corpus = prepare_corpus(
        documents,
        out,
        held_out=HELD_OUT,
        tokenizer=partial(learn_tokenizer, vocab_size=None),
        vocabulary=f"of size {DEFAULT_VOCAB_SIZE}",
    )
    _describe(documents, corpus)
    model, result = _train(corpus, out, device, minutes)
    if result.is_interrupted:
        click.echo(f"interrupted at step {result.step}; the same command goes on from there")
        return result.exit_code
    if result.loss is None and result.valid is None:
        click.echo(f"the run in {out} was complete before; another --out starts a new one")
    # before the rest, so that Ctrl-C there leaves them
    settings = demo_settings(device, minutes).changed(steps=result.num_steps)
    about = describe_training("weldlm demo", "stdlib", corpus, settings, result.valid)
    keep_model(model, corpus.tokenizer, out / "model", about)
    draw_curve(out)
    _, held_out = hold_out(documents, HELD_OUT)
    _judge(model, corpus.tokenizer, held_out)
    _complete(model, corpus.tokenizer)
    _compare(model, corpus)
    folder = out / "model"
    click.echo(f"\n{folder}: loads in transformers; {out / 'loss.svg'}: the loss curve")
    click.echo(f'try: weldlm generate --model {folder} --prompt "import "')
    return 0


def _describe(documents: list["Document"], corpus: "Corpus") -> None:
    assert corpus.valid is not None
    click.echo(
        f"corpus: {len(documents):,} files of Python's standard library, "
        f"{corpus.valid.num_documents} held out; "
        f"{corpus.train.num_tokens:,} tokens to train on, "
        f"vocabulary {corpus.tokenizer.vocab_size:,}"
    )


def _train(
    corpus: "Corpus", out: Path, device: str, minutes: float
) -> tuple["CausalLM", "TrainResult"]:
    import torch

    from weldlm.demo import demo_config, demo_settings
    from weldlm.heads import CausalLM
    from weldlm.progress import progress_callback
    from weldlm.trainer import Trainer

    tokenizer = corpus.tokenizer
    config = demo_config(device, tokenizer.vocab_size, tokenizer.eos_id)
    settings = demo_settings(device, minutes)
    torch.manual_seed(settings.seed)
    model = CausalLM(config).to(device)
    click.echo(f"model: {config.num_parameters:,} parameters, {config.num_layers} layers")
    trainer = Trainer(
        model, corpus.train, settings, out, valid=corpus.valid, callbacks=[progress_callback()]
    )
    return model, trainer.fit(resume="auto")


def _judge(model: "CausalLM", tokenizer: "Tokenizer", held_out: list["Document"]) -> None:
    from weldlm.data.prepare import frame_documents
    from weldlm.evaluate import bits_per_byte, compress

    texts = [document.text for document in held_out]
    raw = [text.encode() for text in texts]
    framed = frame_documents(texts, tokenizer)
    num_tokens = sum(len(ids) - 1 for ids in framed)
    click.echo("", err=True)
    with StepBar("reading the held-out files") as bar:
        ours = bits_per_byte(
            model, framed, sum(map(len, raw)), report=lambda done: bar.update(done, num_tokens)
        )
    xz = compress(raw)
    click.echo(f"all held-out files, bits per byte: this model {ours:.3f}")
    click.echo(f"  xz, each file alone {xz.each_alone:.3f}; all in one {xz.all_in_one:.3f}")


def _complete(model: "CausalLM", tokenizer: "Tokenizer") -> None:
    from weldlm.demo import PROMPTS
    from weldlm.generation import stream
    from weldlm.sampling import SamplingSettings

    settings = SamplingSettings(max_tokens=80, temperature=0.7, top_p=0.9, seed=1)
    for prompt in PROMPTS:
        click.echo("\n" + click.style(prompt, bold=True), nl=False)
        for piece in stream(model, tokenizer, prompt, settings):
            click.echo(piece, nl=False)
        click.echo()


def _compare(model: "CausalLM", corpus: "Corpus") -> None:
    from weldlm.data.plan import PackingPlan
    from weldlm.demo import compare_backends

    plan = PackingPlan(corpus.train, row_length=model.config.context_length, seed=0)
    click.echo("", err=True)
    with StepBar("timing our kernels and the reference") as bar:
        times = compare_backends(model, plan, rows=8, report=bar.update)
    ours, reference = times["ours"], times["reference"]
    click.echo("\ntokens per second            training   generation")
    click.echo(f"  weldlm kernels           {ours.training:>10,.0f} {ours.generation:>12,.0f}")
    click.echo(
        f"  plain PyTorch reference  {reference.training:>10,.0f} {reference.generation:>12,.0f}"
    )
    click.echo(
        f"  ratio                    {ours.training / reference.training:>9.2f}x "
        f"{ours.generation / reference.generation:>11.2f}x"
    )
