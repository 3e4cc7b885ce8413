"""Timing generation: sides take turns, after they have agreed on ids."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from weldlm.batch_limits import BatchLimits
from weldlm.bench.measurement import Measurement
from weldlm.bench.roofline import bytes_of_decoding, read_bandwidth, weight_bytes
from weldlm.bench.sides import (
    ContinuousPeer,
    Side,
    StaticPeer,
    WeldlmSide,
    transformers_model,
)
from weldlm.bench.workload import Workload
from weldlm.heads import CausalLM
from weldlm.quantization import WeightFormat, quantize_model

__all__ = ["GenerationBench", "bench_generation"]

Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationBench:
    """What was measured."""

    measurements: tuple[Measurement, ...]
    read_bandwidth: float  # bytes a second, in the same run
    has_equal_ids: bool | None  # None where sides were not compared


def bench_generation(
    model: CausalLM,
    workloads: Sequence[Workload],
    *,
    limits: BatchLimits,
    repetitions: int = 3,
    has_peer: bool = False,
    weight_format: WeightFormat | None = None,
    report: Report | None = None,
) -> GenerationBench:
    """Times workloads.

    Args:
        model: what generates.
        workloads: what is generated; `mixed_workload`, `prefill_workload`, `decode_workload`.
        limits: `batch_size` rows at a time; `max_length` is set to what the workloads need.
        repetitions: rounds, after one that warms up on the rows that are compared.
        has_peer: transformers does the same, by `generate` and by continuous batching. In fp32 its
            greedy ids must be ours.
        weight_format: `model` is quantized first, in place, its peer not.
        report: called with the number of runs done and of all runs.

    Raises:
        ValueError: a sequence does not fit into the model's context.
        RuntimeError: the sides disagree.
    """
    _require_context(model, workloads)
    limits = limits.cut_to(max(workload.longest for workload in workloads))
    peers: list[Side] = []
    if has_peer:
        theirs = transformers_model(model)
        peers = [StaticPeer(theirs, limits.batch_size), ContinuousPeer(theirs, limits)]
    if weight_format is not None:
        quantize_model(model, weight_format)
    sides: list[Side] = [WeldlmSide(model, limits), *peers]
    weight = next(model.parameters())
    checked = max((workload.checked() for workload in workloads), key=lambda w: w.num_new_tokens)
    is_exact = weight.dtype == torch.float32 and weight_format is None
    has_equal_ids = _agree(sides, checked, is_exact=is_exact)
    bandwidth = read_bandwidth(weight.device)
    measurements: list[Measurement] = []
    progress = _Progress(len(workloads) * repetitions * len(sides), report)
    for workload in workloads:
        seconds = _rounds(sides, workload, repetitions, progress)
        floor = None if workload.is_prefill else _floor_bytes(model, workload, limits) / bandwidth
        measurements += _measurements(sides, workload, seconds, floor)
    return GenerationBench(
        measurements=tuple(measurements),
        read_bandwidth=bandwidth,
        has_equal_ids=has_equal_ids if has_peer else None,
    )


class _Progress:
    """Runs done, of all."""

    def __init__(self, num_runs: int, report: Report | None) -> None:
        self._done, self._num_runs, self._report = 0, num_runs, report

    def add(self) -> None:
        self._done += 1
        if self._report is not None:
            self._report(self._done, self._num_runs)


def _require_context(model: CausalLM, workloads: Sequence[Workload]) -> None:
    context = model.config.context_length
    for workload in workloads:
        if workload.longest > context:
            raise ValueError(
                f"a sequence of {workload.name} has {workload.longest} tokens; expected at most "
                f"the model's context_length {context}; lower lengths, pp or tg, or take another "
                "model"
            )


def _agree(sides: Sequence[Side], workload: Workload, *, is_exact: bool) -> bool:
    """Runs all sides, which warms them up; whether they gave the same ids."""
    first, *others = [(side.name, side.generate(workload)[0]) for side in sides]
    differing = [name for name, ids in others if ids != first[1]]
    if differing and is_exact:
        raise RuntimeError(
            f"{differing[0]} and {first[0]} chose other tokens, greedy in fp32; expected the same, "
            "so that both do the same work"
        )
    return not differing


def _rounds(
    sides: Sequence[Side], workload: Workload, repetitions: int, progress: "_Progress"
) -> list[list[float]]:
    """Seconds of each round and side."""
    seconds: list[list[float]] = []
    for _ in range(repetitions):
        seconds.append([])
        for side in sides:
            ids, taken = side.generate(workload)
            assert [len(row) for row in ids] == list(workload.max_tokens), side.name
            seconds[-1].append(taken)
            progress.add()
    return seconds


def _measurements(
    sides: Sequence[Side], workload: Workload, seconds: list[list[float]], floor: float | None
) -> list[Measurement]:
    return [
        Measurement(
            workload=workload,
            side=side.name,
            seconds=tuple(taken[place] for taken in seconds),
            ratio=statistics.median(taken[place] / taken[0] for taken in seconds)
            if place
            else None,
            floor_seconds=floor,
        )
        for place, side in enumerate(sides)
    ]


def _floor_bytes(model: CausalLM, workload: Workload, limits: BatchLimits) -> int:
    weight = next(model.parameters())
    return bytes_of_decoding(
        model.config,
        workload,
        batch_size=limits.batch_size,
        weight_bytes=weight_bytes(model),
        cache_dtype=torch.int8 if limits.cache_dtype == "int8" else weight.dtype,
    )
