"""What a model costs: weights, arithmetic, memory, and time and energy at measured rates."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from pathlib import Path

import torch
from torch import Tensor, nn

from weldlm.config import HeadKind, ModelConfig
from weldlm.generation import generate
from weldlm.heads import HEADS, CausalLM, Model, Seq2SeqLM, language_head
from weldlm.memory import cache_bytes, require_memory, training_bytes
from weldlm.optim import build_optimizer
from weldlm.packing import PackedBatch
from weldlm.precision import Dtype, autocast
from weldlm.sampling import SamplingSettings
from weldlm.train_settings import TrainSettings
from weldlm_kernels import quantize_weight

__all__ = ["ModelCost", "Rates", "measure_rates", "model_cost", "read_energy"]

_PARTS = {"attention": "attention", "mlp": "mlp", "tokens": "embedding", "positions": "embedding"}
_ROWS_OF_SAMPLE = 8  # of a weight, from which the size of all is known
_RAPL = Path("/sys/class/powercap")
_NUM_WRITTEN = 16  # tokens of a measured generation
_FEWEST_STEPS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelCost:
    """What follows from the configuration alone."""

    num_parameters: int
    parameters: dict[str, int]  # by part: embedding, attention, mlp, other
    flops_forward: int  # for a token of a sequence of the length that was asked for
    flops_training: int  # forward and backward
    weight_bytes: dict[str, int]  # in each dtype; int8 and int4 as `quantize_model` makes them
    # keys and values of a token in each dtype, none of an encoder
    cache_bytes_per_token: dict[str, int]
    # weights, gradients, AdamW's averages and a micro-batch, a lower bound; by dtype of products
    training_bytes: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """What this machine did, tokens a second."""

    training: float
    generation: float | None  # of one sequence, greedily; None of an encoder
    watts: float | None  # of the processor while it trained, where it tells


def model_cost(
    config: ModelConfig, *, length: int, rows: int, head: HeadKind | None = None
) -> ModelCost:
    """Counts without drawing a weight.

    Args:
        config: of the model.
        length: tokens of a sequence.
        rows: sequences of a micro-batch of training.
        head: what stands on the transformer; that of a language model where None.

    Raises:
        ValueError: the length is below 1 or beyond the model's context.
    """
    _require_length(config, length, fewest=1)
    with torch.device("meta"):
        model = HEADS[head or language_head(config)](config)
    parameters = dict.fromkeys(("embedding", "attention", "mlp", "other"), 0)
    for name, weight in model.named_parameters():
        part = next((_PARTS[word] for word in name.split(".") if word in _PARTS), "other")
        parameters[part] += weight.numel()
    total = sum(parameters.values())
    linear, tables = list(_linear_layers(model)), list(_vocabulary_tables(model))
    rest = 4 * (total - sum(weight.numel() for weight in (*linear, *tables)))
    rest += sum(_quantized_bytes(weight, 8) for weight in tables)
    dtypes = {"float32": torch.float32, "bfloat16": torch.bfloat16, "int8": torch.int8}
    settings = TrainSettings(steps=1)
    return ModelCost(
        num_parameters=total,
        parameters=parameters,
        flops_forward=config.flops_per_token(length) // 3,
        flops_training=config.flops_per_token(length),
        weight_bytes={
            "float32": 4 * total,
            "bfloat16": 2 * total,
            "int8": rest + sum(_quantized_bytes(layer, 8) for layer in linear),
            "int4": rest + sum(_quantized_bytes(layer, 4) for layer in linear),
        },
        cache_bytes_per_token={
            name: cache_bytes(config, 1, dtype=dtype)
            for name, dtype in dtypes.items()
            if isinstance(model, CausalLM | Seq2SeqLM)
        },
        training_bytes={
            name: training_bytes(config, settings, rows * length, bytes_of_number=size)
            for name, size in (("float32", 4), ("bfloat16", 2))
        },
    )


def measure_rates(
    config: ModelConfig,
    *,
    length: int,
    rows: int,
    device: str,
    dtype: Dtype,
    seconds: float = 4.0,
) -> Rates:
    """Trains and generates with drawn weights for about that many seconds each.

    Args:
        config: of the model.
        length: tokens of a sequence.
        rows: sequences of a step.
        device: cpu or cuda.
        dtype: of the matrix products of training.
        seconds: of training, and of generation.

    Raises:
        ValueError: the length is below 2 or beyond the model's context, or a step does not fit
            into memory.
    """
    _require_length(config, length, fewest=2)
    size = 4 if dtype == "float32" else 2
    require_memory(
        training_bytes(config, TrainSettings(steps=1), rows * length, bytes_of_number=size),
        f"a step of {rows} rows of {length} tokens",
        advice="measure fewer or shorter rows, or a smaller model",
        device=device,
    )
    torch.manual_seed(0)
    model: Model = HEADS[language_head(config)](config).to(device)
    optimizer = build_optimizer(model, TrainSettings(steps=1))
    arguments = _drawn_batch(config, rows, length, device)

    def step() -> None:
        with autocast(dtype, torch.device(device)):
            loss_sum, count = model(*arguments)
        (loss_sum / count).backward()
        optimizer.step()
        optimizer.zero_grad()

    energy = read_energy()
    begin = time.perf_counter()
    step_seconds = _median_seconds(step, device, seconds)
    spent, used = time.perf_counter() - begin, read_energy()
    watts = None if energy is None or used is None else (used - energy) / spent
    generation = None
    if isinstance(model, CausalLM | Seq2SeqLM):
        model.eval()
        prompt = torch.randint(config.vocab_size, (min(length, 32) // 2,)).tolist()
        settings = SamplingSettings(max_tokens=min(_NUM_WRITTEN, length // 2), ignore_eos=True)
        taken = _median_seconds(lambda: generate(model, None, [prompt], settings), device, seconds)
        generation = settings.max_tokens / taken
    return Rates(training=rows * length / step_seconds, generation=generation, watts=watts)


def read_energy() -> float | None:
    """Joules that the processor packages have used so far, by RAPL; None where they do not tell."""
    try:
        packages = [path for path in _RAPL.glob("*rapl:*") if path.name.count(":") == 1]
        counts = [int((path / "energy_uj").read_text()) for path in packages]
    except (OSError, ValueError):
        return None
    return sum(counts) / 1e6 if counts else None


def _require_length(config: ModelConfig, length: int, *, fewest: int) -> None:
    if not fewest <= length <= config.context_length and config.positions != "relative":
        raise ValueError(
            f"length is {length}; expected {fewest} to {config.context_length}, the model's "
            "context_length"
        )


def _linear_layers(model: nn.Module) -> Iterator[Tensor]:
    """The weights of the linear layers in blocks."""
    for name, layer in model.named_modules():
        if isinstance(layer, nn.Linear) and "blocks" in name.split("."):
            yield layer.weight


def _vocabulary_tables(model: Model) -> Iterator[Tensor]:
    """The token embedding, and a head of its own, which are in 8 bits where layers have fewer."""
    tables = {id(part): part for part in model.modules() if isinstance(part, nn.Embedding)}
    for table in tables.values():
        if table.weight.shape[0] == model.config.vocab_size:
            yield table.weight
    head = getattr(model, "head", None)
    if isinstance(head, nn.Linear):
        yield head.weight


def _quantized_bytes(weight: Tensor, bits: int) -> int:
    """From a few rows of the format itself; as fp32 where the width does not take it."""
    outputs, inputs = weight.shape
    try:
        sample = quantize_weight(
            torch.zeros(_ROWS_OF_SAMPLE, inputs),
            bits=bits,
            group_size=32,
            has_minimums=bits == 4,
        )
    except ValueError:
        return 4 * outputs * inputs
    parts = (getattr(sample, field.name) for field in fields(sample))
    num_bytes = sum(part.nbytes for part in parts if isinstance(part, Tensor))
    return math.ceil(num_bytes / _ROWS_OF_SAMPLE * outputs)


def _drawn_batch(
    config: ModelConfig, rows: int, length: int, device: str
) -> tuple[PackedBatch | Tensor, ...]:
    ids = torch.randint(config.vocab_size, (rows, length))
    batch = PackedBatch.from_sequences(list(ids), device)
    labels = ids.flatten()
    if config.num_encoder_layers:
        return batch, batch, labels.to(device)
    if not config.is_decoder:  # the share that masked language modeling asks for
        labels = torch.where(torch.rand(rows * length) < 0.15, labels, -100)
        labels[0] = ids[0, 0]
    return batch, labels.to(device)


def _median_seconds(run: Callable[[], object], device: str, seconds: float) -> float:
    times: list[float] = []
    run()  # warms up
    end = time.perf_counter() + seconds
    while len(times) < _FEWEST_STEPS or time.perf_counter() < end:
        begin = time.perf_counter()
        run()
        if device == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - begin)
    return sorted(times)[len(times) // 2]
