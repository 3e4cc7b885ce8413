"""Blocks that are computed twice: the gradients of blocks that are not, and less kept."""

import gc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.profiler import profile

from tests.engine.tiny_models import tiny_config, tiny_model
from tests.engine.tiny_runs import RUN, contents, tiny_trainer
from weldlm.heads import CausalLM, Model, Seq2SeqLM
from weldlm.packing import PackedBatch
from weldlm.transformer import Transformer, set_activation_checkpointing

BATCH = PackedBatch.from_sequences([torch.arange(60)] * 4)


class Dropout(nn.Module):
    """A block whose output loses half of its numbers at random."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.block = block

    def forward(self, *arguments: Any) -> tuple[Tensor, Tensor | None]:
        stream, update = self.block(*arguments)
        return nn.functional.dropout(stream, 0.5), update


def with_dropout(model: Model) -> Model:
    for transformer in transformers(model):
        transformer.blocks = nn.ModuleList(map(Dropout, transformer.blocks))
    return model


def transformers(model: Model) -> Iterator[Transformer]:
    return (module for module in list(model.modules()) if isinstance(module, Transformer))


def tiny_t5() -> Model:
    torch.manual_seed(0)
    return Seq2SeqLM(tiny_config("t5-v1.1-small"))


def loss_of(model: Model) -> Tensor:
    batches = [BATCH] * (2 if isinstance(model, Seq2SeqLM) else 1)
    loss: Tensor = model(*batches, BATCH.ids.roll(1))[0]
    return loss


def gradients(model: Model, *, is_on: bool) -> list[Tensor]:
    set_activation_checkpointing(model.train(), is_on)
    model.zero_grad()
    torch.manual_seed(3)
    loss_of(model).backward()
    return [weight.grad.clone() for weight in model.parameters() if weight.grad is not None]


@pytest.mark.parametrize(
    "build",
    [
        tiny_model,
        lambda: tiny_model("llama-tiny"),
        lambda: with_dropout(tiny_model()),
        tiny_t5,
    ],
    ids=["gpt2", "llama", "dropout", "t5"],
)
def test_gradients_are_the_same_bits(build: Callable[[], Model]) -> None:
    model = build()

    expected, found = gradients(model, is_on=False), gradients(model, is_on=True)

    assert len(found) == len(list(model.parameters()))
    assert all(map(torch.equal, found, expected))


def bytes_kept(model: Model, *, is_on: bool) -> int:
    """What a forward allocates and does not free, its loss being alive."""
    set_activation_checkpointing(model.train(), is_on)
    loss_of(model)
    gc.collect()
    with profile(profile_memory=True) as profiled:
        loss = loss_of(model)
    assert loss.requires_grad
    return sum(event.self_cpu_memory_usage for event in profiled.events() or ())


def test_forward_keeps_the_inputs_of_blocks() -> None:
    model = tiny_model(num_layers=6)
    config, num_tokens = model.config, BATCH.num_tokens
    inputs = 4 * num_tokens * config.hidden_size * 2 * config.num_layers

    whole, checkpointed = (bytes_kept(model, is_on=is_on) for is_on in (False, True))

    # a block that is kept holds its two inputs too, and four more of their size at least
    assert whole - checkpointed > 2 * inputs
    assert checkpointed < whole / 2


def test_evaluation_computes_blocks_once() -> None:
    model = tiny_model()
    calls: list[nn.Module] = []
    model.transformer.blocks[0].register_forward_pre_hook(lambda block, _: calls.append(block))
    set_activation_checkpointing(model, True)

    loss_of(model.eval()).backward()
    in_evaluation = len(calls)
    loss_of(model.train()).backward()

    assert (in_evaluation, len(calls)) == (1, 3)


def test_run_with_it_equals_one_without(tmp_path: Path) -> None:
    plain, checkpointed = tmp_path / "plain", tmp_path / "checkpointed"
    settings = RUN.changed(steps=3)
    trainer = tiny_trainer(checkpointed, settings=settings.changed(checkpoint_activations=True))

    expected = contents(tiny_trainer(plain, settings=settings).fit().checkpoint)
    found = contents(trainer.fit().checkpoint)

    assert isinstance(trainer.model, CausalLM)
    assert trainer.model.transformer.checkpoints_activations
    assert found == expected
