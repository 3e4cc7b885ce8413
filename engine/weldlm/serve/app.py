"""The HTTP side of a server: bodies in, JSON or server-sent events out."""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, asynccontextmanager
from typing import Any, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from weldlm.openai_api import (
    ApiError,
    Call,
    answer_call,
    answer_embeddings,
    chunk,
    final_chunk,
    first_chunks,
    read_call,
    read_embedding_call,
    usage_chunk,
)
from weldlm.serve.services import EmbeddingService, GenerationService, Service
from weldlm.text_file import decode_text, parse_json

__all__ = ["build_app"]

T = TypeVar("T")

_CLIENT_LEFT = 499  # nobody reads it; nginx counts such answers by this number
_OPEN_PATHS = ("/health",)  # need no key


def build_app(service: Service, *, api_key: str | None = None) -> Starlette:
    """Returns the application; its start begins and its end closes the service.

    Args:
        service: what answers.
        api_key: asked for as "Authorization: Bearer KEY" where not None.
    """
    endpoints = _Endpoints(service, api_key)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        service.start()
        try:
            yield
        finally:
            await asyncio.to_thread(service.close)

    posts = {
        "/v1/completions": endpoints.complete,
        "/v1/chat/completions": endpoints.complete,
        "/v1/embeddings": endpoints.embed,
    }
    gets = {
        "/health": endpoints.health,
        "/metrics": endpoints.metrics,
        "/v1/models": endpoints.models,
        "/v1/models/{name:path}": endpoints.model,
    }
    routes = [
        Route(path, endpoints.counted(path, handler), methods=[method])
        for method, table in (("POST", posts), ("GET", gets))
        for path, handler in table.items()
    ]
    return Starlette(
        routes=routes,
        lifespan=lifespan,
        exception_handlers={HTTPException: endpoints.refuse_path, Exception: _failure},
    )


class _Endpoints:
    def __init__(self, service: Service, api_key: str | None) -> None:
        self._service, self._api_key = service, api_key
        self._created = int(time.time())

    def counted(
        self, path: str, handler: Callable[[Request], Awaitable[Response]]
    ) -> Callable[[Request], Awaitable[Response]]:
        """The handler with errors as answers, and each answer counted."""

        async def answer(request: Request) -> Response:
            try:
                if path not in _OPEN_PATHS:
                    self._require_key(request)
                response = await handler(request)
            except ApiError as error:
                response = _refusal(error)
            except ClientDisconnect:
                response = Response(status_code=_CLIENT_LEFT)
            self._service.metrics.answers[path, response.status_code] += 1
            return response

        return answer

    async def health(self, _: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def metrics(self, _: Request) -> Response:
        text = self._service.metrics.render(self._service.counts)
        return PlainTextResponse(text, media_type="text/plain; version=0.0.4")

    async def models(self, _: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._model()]})

    async def model(self, request: Request) -> Response:
        self._service.model.require_name(request.path_params["name"])
        return JSONResponse(self._model())

    async def complete(self, request: Request) -> Response:
        service, path = self._service, request.url.path
        if not isinstance(service, GenerationService):
            raise _unable(service, path)
        body = await self._body(request)
        call = await asyncio.to_thread(read_call, path, body, service.model)
        call_id = f"{'chatcmpl' if call.is_chat else 'cmpl'}-{secrets.token_hex(12)}"
        service.require_room(len(call.prompts))
        if call.is_streamed:
            lines = _lines_of_stream(service, call, call_id)
            return StreamingResponse(lines, media_type="text/event-stream")
        completions = await _unless_left(request, service.complete(call, call_id))
        return JSONResponse(await asyncio.to_thread(answer_call, call, call_id, completions))

    async def embed(self, request: Request) -> Response:
        service = self._service
        if not isinstance(service, EmbeddingService):
            raise _unable(service, request.url.path)
        body = await self._body(request)
        call = await asyncio.to_thread(read_embedding_call, body, service.model)
        vectors = await _unless_left(request, service.embed(call))
        return JSONResponse(await asyncio.to_thread(answer_embeddings, call, vectors))

    async def refuse_path(self, request: Request, error: HTTPException) -> Response:
        """What no route takes."""
        self._service.metrics.answers["other", error.status_code] += 1
        message = f"{request.method} {request.url.path[:60]!a}: {error.detail.lower()}"
        return _refusal(ApiError(error.status_code, message), headers=error.headers)

    def _require_key(self, request: Request) -> None:
        if self._api_key is None:
            return
        given = request.headers.get("authorization", "").removeprefix("Bearer ")
        if not secrets.compare_digest(given.encode(), self._api_key.encode()):
            message = "the API key is missing or wrong; expected the header Authorization: Bearer"
            raise ApiError(401, message, code="invalid_api_key")

    def _model(self) -> dict[str, Any]:
        model = self._service.model
        return {
            "id": model.name,
            "object": "model",
            "created": self._created,
            "owned_by": "weldlm",
            "max_model_len": model.max_length,
        }

    async def _body(self, request: Request) -> Any:
        """Reads and parses a body that is neither too large nor too slow."""
        limits = self._service.limits
        parts, num_bytes = [], 0
        try:
            async with asyncio.timeout(limits.max_body_seconds):
                async for part in request.stream():
                    num_bytes += len(part)
                    if num_bytes > limits.max_body_bytes:
                        most = f"{limits.max_body_bytes:,}"
                        raise ApiError(413, f"the body is larger than {most} bytes; split the call")
                    parts.append(part)
        except TimeoutError as error:
            message = f"the body took more than {limits.max_body_seconds:g} s; send it at once"
            raise ApiError(408, message) from error
        try:
            return await asyncio.to_thread(_parse, b"".join(parts))
        except ValueError as error:
            raise ApiError(400, str(error)) from error


def _parse(data: bytes) -> Any:
    return parse_json(decode_text(data, "the body"), "the body", expected="a JSON object")


async def _unless_left(request: Request, work: Awaitable[T]) -> T:
    """Awaits `work`, which is cancelled when the client leaves."""
    task = asyncio.ensure_future(work)
    watch = asyncio.create_task(_wait_until_left(request))
    try:
        await asyncio.wait((task, watch), return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise ClientDisconnect
        return task.result()
    finally:
        watch.cancel()
        task.cancel()
        await asyncio.gather(watch, task, return_exceptions=True)


async def _wait_until_left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def _lines_of_stream(
    service: GenerationService, call: Call, call_id: str
) -> AsyncIterator[str]:
    """Server-sent events; closed, and with it the call, when the client leaves."""
    num_tokens = 0
    try:
        async with aclosing(service.stream(call, call_id)) as events:
            for first in first_chunks(call, call_id):
                yield _line(first)
            async for place, event in events:
                num_tokens += len(event.ids)
                if (part := chunk(call, call_id, place, event)) is not None:
                    yield _line(part)
                if event.finish_reason is not None:
                    yield _line(final_chunk(call, call_id, place, event))
        if call.includes_usage:
            yield _line(usage_chunk(call, call_id, num_tokens))
    except ApiError as error:
        yield _line(error.body)
    yield "data: [DONE]\n\n"


def _line(content: dict[str, Any]) -> str:
    return f"data: {json.dumps(content, separators=(',', ':'))}\n\n"


def _unable(service: Service, path: str) -> ApiError:
    expected = " or ".join(service.paths)
    return ApiError(404, f"the model {service.model.name} does not do {path}; expected {expected}")


def _refusal(error: ApiError, headers: Any = None) -> Response:
    wait = {"Retry-After": "1"} if error.status == 429 else {}
    return JSONResponse(error.body, error.status, {**(headers or {}), **wait})


async def _failure(_: Request, error: Exception) -> Response:
    return _refusal(ApiError(500, f"the server failed: {error or type(error).__name__}"))
