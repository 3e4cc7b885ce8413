"""weldlm.patch on ragged sequences against the same transformers model without it.

python -m pytest benchmarks/bench_patch.py --benchmark-enable
python -m benchmarks.bench_patch    # peak memory of the loss

Lengths are 8 to 256. Aims on a CPU: the encoder's forward 0.95 / fill share times as fast (nothing
is computed for padding), a masked-LM training step 1.5 times, half the memory of the loss.
"""

import copy
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture
from torch import Tensor

import weldlm
from benchmarks.compare import Comparison

__all__ = ["comparisons", "peak_of_loss"]

# evenly spread; a batch padded to the longest is half filled
LENGTHS = tuple(8 + round(248 * row / 15) for row in range(16))
FILL = sum(LENGTHS) / len(LENGTHS) / max(LENGTHS)
VOCAB_SIZE = 30_522
MASKED_SHARE = 0.15

# of the loss: rows, width and vocabulary
LOSS_TOKENS, LOSS_WIDTH, LOSS_VOCAB = 1_024, 256, 50_257
Side = Callable[[], Tensor]


@cache
def models() -> tuple[Any, Any]:
    """BERT, 6 layers of 384, as transformers has it and patched."""
    import transformers

    torch.manual_seed(0)
    config = transformers.BertConfig(
        vocab_size=VOCAB_SIZE, hidden_size=384, num_hidden_layers=6, num_attention_heads=6,
        intermediate_size=1_536, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0,
    )  # fmt: skip
    config._attn_implementation = "eager"
    plain = transformers.BertForMaskedLM(config)
    patched = copy.deepcopy(plain)
    weldlm.patch(patched)
    return plain, patched


def batch() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    mask = torch.stack([torch.arange(max(LENGTHS)) < length for length in LENGTHS])
    ids = torch.randint(5, VOCAB_SIZE, mask.shape, generator=generator).masked_fill(~mask, 0)
    is_masked = mask & (torch.rand(mask.shape, generator=generator) < MASKED_SHARE)
    return {
        "input_ids": ids.masked_fill(is_masked, 4),
        "attention_mask": mask.long(),
        "labels": ids.masked_fill(~is_masked, -100),
    }


def forward_sides() -> dict[str, Side]:
    """The encoder alone, without gradients; returns the states of the real tokens."""
    inputs = batch()
    del inputs["labels"]
    is_real = inputs["attention_mask"].bool()

    def forward(model: Any) -> Tensor:
        with torch.inference_mode():
            return model.bert.eval()(**inputs).last_hidden_state[is_real]  # type: ignore[no-any-return]

    plain, patched = models()
    return {"weldlm": lambda: forward(patched), "transformers": lambda: forward(plain)}


def step_sides() -> dict[str, Side]:
    """Forward and backward of masked-LM; returns the loss."""
    inputs = batch()

    def step(model: Any) -> Tensor:
        model.train().zero_grad()
        loss: Tensor = model(**inputs).loss
        loss.backward()
        return loss.detach()

    plain, patched = models()
    return {"weldlm": lambda: step(patched), "transformers": lambda: step(plain)}


SIDES = {"encoder forward": forward_sides, "masked-LM training step": step_sides}


def comparisons() -> Iterator[Comparison]:
    for name, sides in SIDES.items():
        both = sides()
        torch.testing.assert_close(both["weldlm"](), both["transformers"](), rtol=1e-4, atol=1e-4)
        work = f"patched BERT (6 x 384) {name}, lengths 8-256 (fill {FILL:.2f})"
        yield Comparison(work, "transformers eager", both["weldlm"], both["transformers"])


def peak_of_loss(*, is_patched: bool) -> float:
    """MiB that forward and backward of a model that is nearly all loss take, in a new process."""
    program = f"from benchmarks.bench_patch import print_peak; print_peak({is_patched})"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    return float(done.stdout)


def print_peak(is_patched: bool) -> None:
    """Prints how far the process grows over what it held before the first step, in MiB."""
    import transformers

    from weldlm.step_meter import peak_memory

    config = transformers.GPT2Config(
        vocab_size=LOSS_VOCAB, n_embd=LOSS_WIDTH, n_layer=1, n_head=4, n_positions=LOSS_TOKENS
    )
    model = transformers.GPT2LMHeadModel(config).train()
    if is_patched:
        weldlm.patch(model)
    ids = torch.randint(LOSS_VOCAB, (1, LOSS_TOKENS), generator=torch.Generator().manual_seed(1))
    model(input_ids=ids[:, :16], labels=ids[:, :16]).loss.backward()  # gradients are there
    before = peak_memory(torch.device("cpu"))
    model(input_ids=ids, labels=ids).loss.backward()
    print((peak_memory(torch.device("cpu")) - before) / 2**20)


@pytest.mark.parametrize("side", ["weldlm", "transformers"])
@pytest.mark.parametrize("name", SIDES)
def test_patched_model(benchmark: BenchmarkFixture, name: str, side: str) -> None:
    sides = SIDES[name]()
    benchmark.group = name

    torch.testing.assert_close(sides[side](), sides["transformers"](), rtol=1e-4, atol=1e-4)
    benchmark(sides[side])


def test_loss_takes_half_the_memory() -> None:
    assert peak_of_loss(is_patched=True) < 0.5 * peak_of_loss(is_patched=False)


if __name__ == "__main__":
    ours, theirs = (peak_of_loss(is_patched=is_patched) for is_patched in (True, False))
    print(f"peak of the loss, {LOSS_TOKENS} rows, vocabulary {LOSS_VOCAB}: "
          f"{ours:.0f} MiB, transformers {theirs:.0f} MiB, {ours / theirs:.2f}")  # fmt: skip
