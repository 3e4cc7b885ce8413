"""Who generates when generation is timed: this engine, or transformers with the same weights."""

import tempfile
import time
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any, Protocol

import torch

from weldlm.batch_limits import BatchLimits
from weldlm.bench.workload import Workload
from weldlm.engine import Engine
from weldlm.generation_request import Request
from weldlm.heads import CausalLM
from weldlm.sampling_settings import SamplingSettings
from weldlm.weights import save_pretrained

__all__ = ["ContinuousPeer", "Side", "StaticPeer", "WeldlmSide", "transformers_model"]

_PAGE = 32  # tokens in a block of their cache; their own 256 is for GPUs

Ids = list[tuple[int, ...]]


class Side(Protocol):
    """Generates workloads; what it allocates only once is not timed."""

    name: str

    def generate(self, workload: Workload) -> tuple[Ids, float]:
        """The new ids of each row, and the seconds that they took."""


class WeldlmSide:
    """This engine."""

    name = "weldlm"

    def __init__(self, model: CausalLM, limits: BatchLimits) -> None:
        # rows of one workload share no beginning, and repetitions must compute theirs again
        self._engine = Engine(model, None, replace(limits, shares_prefixes=False))

    def generate(self, workload: Workload) -> tuple[Ids, float]:
        found: dict[int | str, tuple[int, ...]] = {}
        begin = time.perf_counter()
        for place, (ids, count) in enumerate(
            zip(workload.prompts, workload.max_tokens, strict=True)
        ):
            settings = SamplingSettings(
                max_tokens=count, temperature=workload.temperature, ignore_eos=True
            )
            self._engine.add(Request(id=place, ids=ids, settings=settings, row_id=place))
        while self._engine.has_work:
            for event in self._engine.step():
                if event.completion is not None:
                    found[event.request_id] = event.completion.ids
        seconds = time.perf_counter() - begin
        return [found[place] for place in range(len(workload.prompts))], seconds


class StaticPeer:
    """`generate` of transformers: batches of rows that are sorted by length and padded.

    A batch lasts until its longest completion is there; only tokens that were asked for count.
    """

    name = "transformers generate"

    def __init__(self, model: Any, batch_size: int) -> None:
        self._model, self._batch_size = model, batch_size

    @torch.inference_mode()
    def generate(self, workload: Workload) -> tuple[Ids, float]:
        order = sorted(range(len(workload.prompts)), key=lambda row: -len(workload.prompts[row]))
        found: dict[int, tuple[int, ...]] = {}
        begin = time.perf_counter()
        for start in range(0, len(order), self._batch_size):
            rows = order[start : start + self._batch_size]
            for row, new in zip(rows, self._batch(workload, rows), strict=True):
                found[row] = tuple(new[: workload.max_tokens[row]])
        seconds = time.perf_counter() - begin
        return [found[row] for row in range(len(order))], seconds

    def _batch(self, workload: Workload, rows: list[int]) -> list[list[int]]:
        prompts = [workload.prompts[row] for row in rows]
        width, device = max(map(len, prompts)), self._model.device
        padded = [[0] * (width - len(prompt)) + list(prompt) for prompt in prompts]
        mask = [[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts]
        ids = self._model.generate(
            torch.tensor(padded, device=device),
            attention_mask=torch.tensor(mask, device=device),
            max_new_tokens=max(workload.max_tokens[row] for row in rows),
            pad_token_id=0,
            **_choice(workload),
        )
        new: list[list[int]] = ids[:, width:].tolist()
        return new


class ContinuousPeer:
    """Continuous batching of transformers, what its `generate_batch` runs, with lengths by row."""

    name = "transformers generate_batch"

    def __init__(self, model: Any, limits: BatchLimits) -> None:
        self._model, self._limits = model, limits

    def generate(self, workload: Workload) -> tuple[Ids, float]:
        found: dict[str, tuple[int, ...]] = {}
        with self._manager(workload) as manager:
            begin = time.perf_counter()
            names = [
                manager.add_request(list(ids), max_new_tokens=count, eos_token_id=-1)
                for ids, count in zip(workload.prompts, workload.max_tokens, strict=True)
            ]
            while len(found) < len(names):
                result = manager.get_result(timeout=1)
                if result is None and manager.is_running():
                    continue
                if result is None or result.error is not None:
                    why = "its thread ended" if result is None else result.error
                    raise RuntimeError(f"continuous batching of transformers failed: {why}")
                if result.is_finished():
                    found[result.request_id] = tuple(result.generated_tokens)
            seconds = time.perf_counter() - begin
        return [found[name] for name in names], seconds

    def _manager(self, workload: Workload) -> AbstractContextManager[Any]:
        from transformers import ContinuousBatchingConfig, GenerationConfig

        choice = GenerationConfig(
            max_new_tokens=max(workload.max_tokens), eos_token_id=-1, **_choice(workload)
        )
        is_cpu = self._model.device.type == "cpu"
        batching = ContinuousBatchingConfig(
            max_batch_tokens=self._limits.max_batch_tokens,
            max_requests_per_batch=self._limits.batch_size,
            allow_block_sharing=False,
            **(_on_cpu(workload) if is_cpu else {}),
        )
        manager: AbstractContextManager[Any] = self._model.continuous_batching_context_manager(
            generation_config=choice, continuous_batching_config=batching, block=True, timeout=5
        )
        return manager


def transformers_model(model: CausalLM) -> Any:
    """The model of transformers with the same weights, dtype and device."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    first = next(model.parameters())
    with tempfile.TemporaryDirectory() as folder:
        save_pretrained(model, folder)
        theirs = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=first.dtype)
    theirs.generation_config.eos_token_id = None  # nothing ends a row but its length
    return theirs.to(first.device).eval()


def _choice(workload: Workload) -> dict[str, Any]:
    """How transformers chooses tokens."""
    if workload.temperature == 0:
        return {"do_sample": False}
    return {"do_sample": True, "temperature": workload.temperature, "top_k": 0, "top_p": 1.0}


def _on_cpu(workload: Workload) -> dict[str, Any]:
    """What transformers measures on a GPU by itself."""
    rows = zip(workload.prompts, workload.max_tokens, strict=True)
    num_blocks = sum(-(-(len(prompt) + count) // _PAGE) + 1 for prompt, count in rows)
    return {
        "page_size": _PAGE,
        "num_blocks": num_blocks,
        "use_cuda_graph": False,
        "use_async_batching": False,
    }
