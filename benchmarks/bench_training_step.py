"""A training step of GPT-2 on ragged sequences, forward and backward, against transformers.

python -m pytest benchmarks/bench_training_step.py --benchmark-enable
"""

import tempfile
from collections.abc import Callable, Iterator

import pytest
import torch
from pytest_benchmark.fixture import BenchmarkFixture

from benchmarks.compare import Comparison
from weldlm.config import preset
from weldlm.heads import CausalLM
from weldlm.objectives import causal_lm_labels
from weldlm.packing import PackedBatch
from weldlm.weights import save_pretrained
from weldlm_kernels import use_backend

__all__ = ["comparisons"]

# sequence lengths of a step
LENGTHS = {
    "ragged": (17, 33, 48, 64, 90, 128, 200, 256),
    "full": (256,) * 4,
}
Step = Callable[[], float]


def model_of_both() -> tuple[CausalLM, torch.nn.Module]:
    """Our model, and transformers' with the same weights."""
    import transformers

    torch.manual_seed(0)
    config = preset("gpt2-tiny", vocab_size=8_192, hidden_size=384, num_layers=6, num_heads=6,
                    num_kv_heads=6, head_dim=64, intermediate_size=1_536)  # fmt: skip
    ours = CausalLM(config)
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(ours, folder)
        theirs = transformers.GPT2LMHeadModel.from_pretrained(folder, attn_implementation="sdpa")
    return ours, theirs.train()


def steps(lengths: tuple[int, ...]) -> dict[str, Step]:
    """Forward and backward on the same sequences, by each side; returns the mean loss."""
    ours, theirs = model_of_both()
    generator = torch.Generator().manual_seed(1)
    sequences = [torch.randint(8_192, (length,), generator=generator) for length in lengths]
    batch = PackedBatch.from_sequences(sequences)
    labels = causal_lm_labels(batch)
    padded = torch.nn.utils.rnn.pad_sequence(sequences, batch_first=True)
    mask = torch.nn.utils.rnn.pad_sequence([torch.ones_like(ids) for ids in sequences], True)
    their_labels = padded.masked_fill(mask == 0, -100)

    def packed() -> float:
        loss_sum, count = ours(batch, labels)
        loss = loss_sum / count
        loss.backward()
        ours.zero_grad()
        return loss.item()

    def reference() -> float:
        with use_backend("reference"):
            return packed()

    def transformers() -> float:
        loss = theirs(input_ids=padded, attention_mask=mask, labels=their_labels).loss
        loss.backward()
        theirs.zero_grad()
        return loss.item()

    return {"weldlm": packed, "reference": reference, "transformers": transformers}


def comparisons() -> Iterator[Comparison]:
    for name, lengths in LENGTHS.items():
        sides = steps(lengths)
        assert sides["weldlm"]() == pytest.approx(sides["transformers"](), rel=1e-5)
        fill = sum(lengths) / len(lengths) / max(lengths)
        work = f"GPT-2 (6 x 384) training step, {name} sequences (fill {fill:.2f})"
        yield Comparison(work, "transformers eager, sdpa", sides["weldlm"], sides["transformers"])
        yield Comparison(work, "our reference path", sides["weldlm"], sides["reference"])


@pytest.mark.parametrize("side", ["weldlm", "reference", "transformers"])
@pytest.mark.parametrize("lengths", LENGTHS.values(), ids=LENGTHS.keys())
def test_training_step(benchmark: BenchmarkFixture, lengths: tuple[int, ...], side: str) -> None:
    sides = steps(lengths)
    benchmark.group = f"training step, lengths {lengths}"

    assert sides[side]() == pytest.approx(sides["reference"](), rel=1e-5)
    benchmark(sides[side])
