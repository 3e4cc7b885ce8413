"""What a server does with its model: generation through the engine, or embeddings."""

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from dataclasses import dataclass, field
from functools import partial
from typing import ClassVar, TypeAlias

import torch
from torch import Tensor

from weldlm.batch_limits import BatchLimits
from weldlm.completion import Completion
from weldlm.config import Pooling
from weldlm.encoder_queue import EncoderQueue
from weldlm.encoding import embed
from weldlm.engine import Engine, EngineCounts, Event
from weldlm.generation_request import Request
from weldlm.heads import SentenceEmbedder
from weldlm.openai_api import ApiError, ApiModel, Call, EmbeddingCall
from weldlm.serve.limits import ServeLimits
from weldlm.serve.metrics import Metrics
from weldlm.serve.worker import Delivery, EngineWorker

__all__ = ["EmbeddingService", "GenerationService", "Service"]

Vector: TypeAlias = asyncio.Future[Tensor]
Inbox = asyncio.Queue[tuple[int, Event | Exception]]


class GenerationService:
    """Calls of a model that writes, all through one engine."""

    paths: ClassVar = ("/v1/completions", "/v1/chat/completions")

    def __init__(self, model: ApiModel, engine: Engine, limits: ServeLimits) -> None:
        self.model, self.limits, self.metrics = model, limits, Metrics()
        self._engine = engine
        self._worker: EngineWorker | None = None
        self._open: dict[int | str, tuple[int, Inbox]] = {}  # place in its call, and whose it is

    @property
    def counts(self) -> EngineCounts | None:
        return None if self._worker is None else self._worker.counts

    def start(self) -> None:
        """Starts the engine's thread, which delivers to the event loop that runs now."""
        loop = asyncio.get_running_loop()
        self._worker = EngineWorker(
            self._engine, lambda found: _call_in(loop, self._dispatch, found)
        )

    def close(self) -> None:
        if self._worker is not None:
            self._worker.close()

    def require_room(self, num_prompts: int) -> None:
        """Refuses what would be too much.

        Raises:
            ApiError: there are too many requests.
        """
        most = self.limits.max_requests
        if num_prompts > most:
            message = f"the call has {num_prompts} prompts; expected at most {most}; split it"
            raise ApiError(422, message, param="prompt")
        if len(self._open) + num_prompts > most:
            message = f"{len(self._open)} prompts are under way, of at most {most}; try again later"
            raise ApiError(429, message, code="too_many_requests")

    async def complete(self, call: Call, call_id: str) -> list[Completion]:
        """Returns the completion of each prompt; what is under way ends when this is cancelled."""
        found: list[Completion | None] = [None] * len(call.prompts)
        async with aclosing(self.stream(call, call_id)) as events:
            async for place, event in events:
                if event.completion is not None:
                    found[place] = event.completion
        return [completion for completion in found if completion is not None]

    async def stream(self, call: Call, call_id: str) -> AsyncGenerator[tuple[int, Event], None]:
        """Yields (place of the prompt, event); what is under way ends when this is closed.

        Raises:
            ApiError: the engine refuses the call or broke down.
        """
        assert self._worker is not None
        requests, inbox, clock = call.requests(call_id), Inbox(), _Clock()
        self.require_room(len(requests))
        for place, request in enumerate(requests):
            self._open[request.id] = (place, inbox)
            self._worker.submit(request)
        self.metrics.num_prompt_tokens += call.num_prompt_tokens
        num_left = len(requests)
        try:
            while num_left:
                place, event = await inbox.get()
                if isinstance(event, Exception):
                    raise _api_error(event) from event
                if event.completion is not None:
                    num_left -= 1
                self._count(call, event, clock)
                yield place, event
            self.metrics.whole_call.add(clock.seconds)
        finally:
            self.metrics.num_aborted += num_left > 0
            self._close(requests)

    def _close(self, requests: Sequence[Request]) -> None:
        assert self._worker is not None
        for request in requests:
            if self._open.pop(request.id, None) is not None:
                self._worker.abort(request.id)

    def _count(self, call: Call, event: Event, clock: "_Clock") -> None:
        if event.completion is not None and call.is_generating:
            group = (event.completion, *event.completion.others)
            self.metrics.num_tokens += sum(len(completion.ids) for completion in group)
        if clock.is_first:
            clock.is_first = False
            self.metrics.first_token.add(clock.seconds)

    def _dispatch(self, found: Sequence[Delivery]) -> None:
        for request_id, event in found:
            place, inbox = self._open.get(request_id, (0, None))
            if inbox is None:
                continue  # its client has left
            if isinstance(event, Exception) or event.completion is not None:
                del self._open[request_id]
            inbox.put_nowait((place, event))


@dataclass(slots=True)
class EmbeddingService:
    """Calls of a model that embeds; rows of all calls under way share its steps."""

    paths: ClassVar = ("/v1/embeddings",)

    model: ApiModel
    embedder: SentenceEmbedder
    limits: ServeLimits
    pooling: Pooling = "mean"
    batch: BatchLimits = field(default_factory=BatchLimits)  # rows and tokens of a step
    metrics: Metrics = field(default_factory=Metrics)
    counts: None = None
    _thread: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    _num_open: int = 0
    _queue: EncoderQueue[Vector] = field(init=False)
    _steps: asyncio.Task[None] | None = None  # runs while rows wait

    def start(self) -> None:
        self._queue = EncoderQueue(self.batch)

    def close(self) -> None:
        self._thread.shutdown(cancel_futures=True)

    async def embed(self, call: EmbeddingCall) -> Tensor:
        """Returns the embedding of each row, [R, hidden_size]; rows that wait go if cancelled.

        Raises:
            ApiError: there are too many requests, or the model breaks down.
        """
        most = self.limits.max_requests
        if self._num_open >= most:
            message = f"{self._num_open} calls are under way, of at most {most}; try again later"
            raise ApiError(429, message, code="too_many_requests")
        self._num_open += 1
        clock, loop = _Clock(), asyncio.get_running_loop()
        vectors: list[Vector] = [loop.create_future() for _ in call.rows]
        try:
            for vector, ids in zip(vectors, call.rows, strict=True):
                self._queue.add(vector, ids)
            if self._steps is None or self._steps.done():
                self._steps = asyncio.create_task(self._run_steps())
            found = await asyncio.gather(*vectors, return_exceptions=True)
        finally:
            self._num_open -= 1
            for vector in vectors:
                self._queue.drop(vector)
        self.metrics.num_prompt_tokens += sum(map(len, call.rows))
        self.metrics.whole_call.add(clock.seconds)
        return torch.stack([_checked(vector) for vector in found])

    async def _run_steps(self) -> None:
        """Embeds what waits, until nothing does."""
        loop = asyncio.get_running_loop()
        while taken := self._queue.take():
            rows = [ids for _, ids in taken]
            step = partial(
                embed,
                self.embedder,
                rows,
                pooling=self.pooling,
                max_batch_tokens=self.batch.max_batch_tokens,
            )
            found: Sequence[Tensor | Exception]
            try:
                found = list(await loop.run_in_executor(self._thread, step))
            except Exception as error:  # whatever the model breaks down with
                found = [error] * len(taken)
            for (vector, _), result in zip(taken, found, strict=True):
                if vector.done():
                    continue  # its client has left
                if isinstance(result, Exception):
                    vector.set_exception(result)
                else:
                    vector.set_result(result)


def _checked(found: Tensor | BaseException) -> Tensor:
    if isinstance(found, Exception):
        message = f"the model failed: {found or type(found).__name__}"
        raise ApiError(500, message) from found
    if isinstance(found, BaseException):
        raise found
    return found


Service = GenerationService | EmbeddingService


class _Clock:
    def __init__(self) -> None:
        self._start, self.is_first = time.monotonic(), True

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._start


def _call_in(loop: asyncio.AbstractEventLoop, function: object, *arguments: object) -> None:
    """Runs a function in the event loop, unless the loop has ended."""
    try:
        loop.call_soon_threadsafe(function, *arguments)  # type: ignore[arg-type]
    except RuntimeError:
        if not loop.is_closed():
            raise


def _api_error(error: Exception) -> ApiError:
    if isinstance(error, ValueError):
        return ApiError(400, str(error))
    return ApiError(500, f"the engine failed: {error or type(error).__name__}")
