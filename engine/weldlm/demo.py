"""What `weldlm demo` runs: the model and settings for its budget, and our backend timed against
the reference.

The CPU sizes were chosen by measurement for two minutes on two cores: of vocabularies 2k to 8k,
widths 128 to 256, depths 2 to 4, batches of 2 and 4 rows and several learning rates, these gave the
fewest held-out bits per byte.
"""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from weldlm.config import ModelConfig, preset
from weldlm.data.plan import PackingPlan
from weldlm.generation import generate
from weldlm.heads import CausalLM
from weldlm.objectives import causal_lm_labels
from weldlm.packing import PackedBatch
from weldlm.sampling import SamplingSettings
from weldlm.train_settings import TrainSettings
from weldlm_kernels import use_backend

__all__ = [
    "HELD_OUT",
    "PROMPTS",
    "BackendTimes",
    "compare_backends",
    "demo_config",
    "demo_settings",
]

HELD_OUT = 0.05  # share of the files kept from training
PROMPTS = (
    "def read_json(path):\n",
    "class Stack:\n    def __init__(self):\n",
    "for name in sorted(os.listdir(folder)):\n",
)

_REPETITIONS = 3
_NEW_TOKENS = 32
_NUM_PROMPTS = 8


def demo_config(device: str, vocab_size: int, eos_id: int | None) -> ModelConfig:
    """A Llama-style model that the budget can train: small on a CPU, larger on a GPU."""
    sizes = {"context_length": 256, "hidden_size": 192, "num_layers": 2, "num_heads": 3}
    if device == "cuda":
        sizes = {"context_length": 1_024, "hidden_size": 768, "num_layers": 12, "num_heads": 12}
    return preset(
        "llama-tiny",
        vocab_size=vocab_size,
        bos_id=eos_id,
        eos_id=eos_id,
        num_kv_heads=sizes["num_heads"],
        head_dim=sizes["hidden_size"] // sizes["num_heads"],
        intermediate_size=sizes["hidden_size"] * 5 // 2,
        **sizes,
    )


def demo_settings(device: str, minutes: float) -> TrainSettings:
    """Batch and learning rate for the budget."""
    if device == "cuda":
        return TrainSettings(minutes=minutes, rows_per_step=64, lr=1e-3, eval_rows=64)
    # small batches: in so few steps more of them teach more than better gradients do; at this rate
    # attention scores grow to hundreds, which bf16 rounds by about one
    return TrainSettings(
        minutes=minutes,
        rows_per_step=2,
        lr=4e-3,
        min_lr_fraction=0.05,
        eval_rows=64,
        dtype="float32",
    )


@dataclass(frozen=True, slots=True)
class BackendTimes:
    """Rates of one path, tokens per second."""

    training: float
    generation: float


def compare_backends(
    model: CausalLM, plan: PackingPlan, rows: int, *, report: Callable[[int, int], None]
) -> dict[str, BackendTimes]:
    """Times a training step and a generation on the chosen backend and on the reference.

    The two take turns; each figure is the median of three. `report` takes rounds done and all.
    """
    batch = plan.rows(0, rows).to(model.head_weight.device)
    labels = causal_lm_labels(batch)
    prompts = [batch.ids[start : start + 16].tolist() for start in range(0, 16 * _NUM_PROMPTS, 16)]
    training: dict[str, list[float]] = {"ours": [], "reference": []}
    generation: dict[str, list[float]] = {"ours": [], "reference": []}
    for repetition in range(_REPETITIONS + 1):
        for name in training:
            step = _seconds(lambda: _train_step(model, batch, labels), name)
            new = _seconds(lambda: _complete(model, prompts), name)
            if repetition > 0:  # the first round warms up
                training[name].append(batch.num_tokens / step)
                generation[name].append(_NEW_TOKENS * _NUM_PROMPTS / new)
        report(repetition + 1, _REPETITIONS + 1)
    return {
        name: BackendTimes(statistics.median(training[name]), statistics.median(generation[name]))
        for name in training
    }


def _seconds(run: Callable[[], object], name: str) -> float:
    start = time.perf_counter()
    if name == "reference":
        with use_backend("reference"):
            run()
    else:
        run()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def _train_step(model: CausalLM, batch: PackedBatch, labels: Tensor) -> None:
    loss_sum, count = model(batch, labels)
    (loss_sum / count).backward()
    model.zero_grad(set_to_none=True)


def _complete(model: CausalLM, prompts: list[list[int]]) -> None:
    settings = SamplingSettings(max_tokens=_NEW_TOKENS)
    generate(model, None, prompts, settings, batch_size=_NUM_PROMPTS)
