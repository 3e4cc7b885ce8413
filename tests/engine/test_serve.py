"""The server over real sockets: answers, streams, errors, and clients that leave."""

import asyncio
import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.running_server import (
    CHAT,
    COMPLETIONS,
    GREEDY,
    LENGTH,
    MESSAGE,
    MODEL,
    TOKENIZER,
    Server,
    chunks,
    expected,
    generation_service,
    httpx,
)
from weldlm.engine import Engine
from weldlm.generation import generate
from weldlm.packing import PackedBatch
from weldlm.sampling_settings import SamplingSettings


@pytest.fixture(name="server", scope="module")
def running_server() -> Iterator[Server]:
    with Server(generation_service(max_body_bytes=100_000, max_body_seconds=0.5)) as server:
        yield server


def test_a_completion_is_that_of_generate(server: Server) -> None:
    answer = server.post(COMPLETIONS, model="tiny", prompt="some text", max_tokens=5, **GREEDY)

    completion = expected("some text", max_tokens=5)
    body = answer.json()
    assert answer.status_code == 200
    assert body["object"] == "text_completion"
    assert body["choices"][0]["text"] == completion.text
    assert body["choices"][0]["finish_reason"] == completion.finish_reason
    tokens = completion.num_prompt_tokens, len(completion.ids)
    assert body["usage"] == {
        "prompt_tokens": tokens[0],
        "completion_tokens": tokens[1],
        "total_tokens": sum(tokens),
    }


def test_prompts_of_a_list_are_texts_or_ids_and_n_samples_each(server: Server) -> None:
    ids = TOKENIZER.encode("text")
    body = {"max_tokens": 4, "n": 2, "seed": 7, "temperature": 0.9}

    choices = server.post(COMPLETIONS, prompt=["some", "text"], **body).json()["choices"]
    of_ids = server.post(COMPLETIONS, prompt=[TOKENIZER.encode("some"), ids], **body).json()

    settings = SamplingSettings(max_tokens=4, n=2, seed=7, temperature=0.9)
    found = generate(MODEL, TOKENIZER, ["some", "text"], settings)
    texts = [part.text for first in found for part in (first, *first.others)]
    assert [choice["index"] for choice in choices] == [0, 1, 2, 3]
    assert [choice["text"] for choice in choices] == texts
    assert [choice["text"] for choice in of_ids["choices"]] == texts


def test_echo_with_max_tokens_0_scores_the_prompt(server: Server) -> None:
    body = {"prompt": "some text", "max_tokens": 0, "echo": True, "logprobs": 2}

    answer = server.post(COMPLETIONS, **body, **GREEDY).json()

    ids = TOKENIZER.encode("some text")
    logits = MODEL.logits(PackedBatch.from_sequences([ids])).double().log_softmax(dim=-1)
    scores = logits[:-1].gather(1, torch.tensor(ids[1:]).unsqueeze(1)).flatten()
    choice = answer["choices"][0]
    assert choice["text"] == "some text"
    assert choice["finish_reason"] == "length"
    assert answer["usage"]["completion_tokens"] == 0
    assert choice["logprobs"]["tokens"] == [TOKENIZER.decode([token_id]) for token_id in ids]
    assert choice["logprobs"]["token_logprobs"][0] is None
    np.testing.assert_allclose(choice["logprobs"]["token_logprobs"][1:], scores.detach(), atol=1e-5)
    assert "".join(choice["logprobs"]["tokens"]) == "some text"
    assert choice["logprobs"]["text_offset"][:2] == [0, len(choice["logprobs"]["tokens"][0])]
    assert all(len(top) in (2, 3) for top in choice["logprobs"]["top_logprobs"][1:])


def test_a_continuation_is_scored_as_evaluations_ask_for_it(server: Server) -> None:
    """Ids of context and continuation, echoed, with one more token that nobody looks at."""
    ids, num_context = [*TOKENIZER.encode("some text"), 0], 2
    ids[-1] = int(MODEL.logits(PackedBatch.from_sequences([ids]))[-2].argmax())
    body = {"prompt": [ids, ids[:3]], "max_tokens": 1, "echo": True, "logprobs": 1, "seed": 1234}

    choices = server.post(COMPLETIONS, **body, **GREEDY).json()["choices"]

    scores = MODEL.logits(PackedBatch.from_sequences([ids])).double().log_softmax(dim=-1)
    for choice, row in zip(choices, (ids, ids[:3]), strict=True):
        found = choice["logprobs"]
        assert len(found["tokens"]) == len(found["top_logprobs"]) == len(row) + 1
        expected_sum = sum(scores[i - 1, row[i]].item() for i in range(num_context, len(row)))
        assert sum(found["token_logprobs"][num_context:-1]) == pytest.approx(expected_sum, abs=1e-5)
        scored = slice(num_context, -1)
        is_best = [
            max(top, key=top.get) == token
            for top, token in zip(
                found["top_logprobs"][scored], found["tokens"][scored], strict=True
            )
        ]
        places = range(num_context, len(row))
        assert is_best == [int(scores[i - 1].argmax()) == row[i] for i in places]


def test_a_chat_is_what_its_template_spells(server: Server) -> None:
    messages = [{"role": "user", "content": [{"type": "text", "text": "some text"}]}]

    answer = server.post(CHAT, messages=messages, max_tokens=5, **GREEDY).json()

    assert answer["object"] == "chat.completion"
    completion = expected("<user>some text\n<assistant>", max_tokens=5)
    assert answer["choices"][0]["message"]["content"] == completion.text
    assert answer["choices"][0]["message"]["role"] == "assistant"


def test_the_pieces_of_a_stream_are_the_answer(server: Server) -> None:
    messages = [{"role": "user", "content": "some"}]
    body = {"messages": messages, "max_tokens": 9, "logprobs": True, "top_logprobs": 2, **GREEDY}

    whole = server.post(CHAT, **body).json()
    options = {"include_usage": True}
    parts = chunks(server.post(CHAT, **body, stream=True, stream_options=options))

    *parts, usage = parts
    deltas = [part["choices"][0] for part in parts]
    message, logprobs = whole["choices"][0]["message"], whole["choices"][0]["logprobs"]
    assert deltas[0]["delta"] == {"role": "assistant", "content": ""}
    assert "".join(part["delta"].get("content", "") for part in deltas) == message["content"]
    shown = [token for part in deltas if part["logprobs"] for token in part["logprobs"]["content"]]
    assert shown == logprobs["content"]
    assert [part["finish_reason"] for part in deltas][-1] == whole["choices"][0]["finish_reason"]
    assert usage["choices"] == []
    assert usage["usage"] == whole["usage"]


def test_a_stream_of_samples_and_prompts_names_its_choices(server: Server) -> None:
    body = {"prompt": ["some", "text"], "max_tokens": 6, "n": 2, "seed": 3, "echo": True}

    whole = server.post(COMPLETIONS, **body).json()["choices"]
    parts = chunks(server.post(COMPLETIONS, **body, stream=True))

    texts = [""] * 4
    for part in parts:
        texts[part["choices"][0]["index"]] += part["choices"][0]["text"]
    assert texts == [choice["text"] for choice in whole]


def test_stop_texts_end_an_answer_and_are_no_part_of_it(server: Server) -> None:
    text = expected("some", max_tokens=12).text
    stop = text[4:6]

    choice = server.post(
        COMPLETIONS, prompt="some", max_tokens=12, stop=[stop, "@@"], **GREEDY
    ).json()["choices"][0]

    assert choice["text"] == text[: text.index(stop)]
    assert choice["finish_reason"] == "stop"


def test_models_and_health(server: Server) -> None:
    assert server.client.get("/health").json() == {"status": "ok"}
    (model,) = server.client.get("/v1/models").json()["data"]
    assert (model["id"], model["max_model_len"]) == ("tiny", LENGTH)
    assert server.client.get("/v1/models/tiny").json()["id"] == "tiny"
    assert server.client.get("/v1/models/other").status_code == 404


REFUSALS = [
    pytest.param(COMPLETIONS, b"{", 400, "the body is not valid JSON", id="torn"),
    pytest.param(COMPLETIONS, b"\xff{}", 400, "the body is not UTF-8", id="not-utf-8"),
    pytest.param(COMPLETIONS, b"[" * 99_999, 400, "nested too deep", id="nested"),
    pytest.param(COMPLETIONS, b"[]", 422, "expected a JSON object", id="list"),
    pytest.param(COMPLETIONS, b"{}", 422, "there is no prompt", id="no-prompt"),
    pytest.param(COMPLETIONS, b'{"prompt": 3}', 422, "prompt is 3", id="number"),
    pytest.param(COMPLETIONS, b'{"prompt": [[1], {}]}', 422, "prompt is [[1]", id="mixed"),
    pytest.param(COMPLETIONS, b'{"prompt": [1, 999]}', 400, "has the id 999", id="unknown-id"),
    pytest.param(COMPLETIONS, b'{"prompt": [1, true]}', 422, "prompt is", id="flag-as-id"),
    pytest.param(
        COMPLETIONS, b'{"prompt": "a\\ud800"}', 422, "prompt is 'a\\ud800'", id="half-character"
    ),
    pytest.param(
        COMPLETIONS, b'{"prompt": "a", "max_tokens": "5"}', 422, "max_tokens is '5'", id="text"
    ),
    pytest.param(
        COMPLETIONS, b'{"prompt": "a", "max_tokens": -1}', 422, "max_tokens is -1", id="negative"
    ),
    pytest.param(
        COMPLETIONS, b'{"prompt": "a", "temperature": NaN}', 422, "temperature is nan", id="nan"
    ),
    pytest.param(
        COMPLETIONS, b'{"prompt": "a", "top_p": 7}', 422, "top_p is 7.0; expected above", id="range"
    ),
    pytest.param(
        COMPLETIONS, b'{"prompt": "a", "n": 9, "best_of": 9}', 400, "9 sequences", id="too-wide"
    ),
    pytest.param(
        COMPLETIONS, b'{"prompt": "a", "best_of": 2, "stream": true}', 422, "stream", id="best"
    ),
    pytest.param(COMPLETIONS, b'{"prompt": "a", "tool": 1}', 422, "sets 'tool'", id="unknown"),
    pytest.param(
        CHAT, b'{"messages": [{"role": "user"}]}', 400, "message 0 has the content", id="no-content"
    ),
    pytest.param(CHAT, b'{"messages": "hi"}', 422, "messages is 'hi'", id="no-messages"),
    pytest.param(
        CHAT,
        b'{"messages": [{"role": "user", "content": "a"}], "tools": [{}]}',
        422,
        "tools is [{}], which is not supported",
        id="tools",
    ),
    pytest.param(
        COMPLETIONS, b'{"prompt": "a", "model": "gpt-4"}', 404, "'gpt-4' does not exist", id="model"
    ),
    pytest.param(
        COMPLETIONS, json.dumps({"prompt": "z" * 300}).encode(), 400, "300 tokens", id="too-long"
    ),
    pytest.param(COMPLETIONS, b" " * 100_001, 413, "larger than 100,000 bytes", id="too-large"),
    pytest.param("/v1/embeddings", b"{}", 404, "does not do /v1/embeddings", id="no-encoder"),
    pytest.param("/v1/nothing", b"{}", 404, "not found", id="path"),
    pytest.param("/health", b"{}", 405, "method not allowed", id="method"),
]


@pytest.mark.parametrize(("path", "body", "status", "message"), REFUSALS)
def test_what_is_wrong_is_answered(
    server: Server, path: str, body: bytes, status: int, message: str
) -> None:
    answer = server.client.post(path, content=body)

    error = answer.json()["error"]
    assert answer.status_code == status
    assert message in error["message"]
    assert error["type"] == "invalid_request_error"
    assert {"param", "code"} < set(error)


def test_a_body_that_does_not_come_is_given_up(server: Server) -> None:
    def slow() -> Iterator[bytes]:
        yield b'{"prompt": '
        time.sleep(1.5)
        yield b'"a"}'

    answer = server.client.post(COMPLETIONS, content=slow())

    assert answer.status_code == 408
    assert "the body took more than 0.5 s" in answer.json()["error"]["message"]


def test_a_key_is_asked_for_where_there_is_one() -> None:
    with Server(generation_service(), api_key="secret") as server:
        wrong = server.client.get("/v1/models", headers={"Authorization": "Bearer guess"})
        missing = server.client.get("/v1/models")
        right = server.client.get("/v1/models", headers={"Authorization": "Bearer secret"})
        health = server.client.get("/health")

    assert [wrong.status_code, missing.status_code] == [401, 401]
    assert wrong.json()["error"]["code"] == "invalid_api_key"
    assert [right.status_code, health.status_code] == [200, 200]


def test_too_many_requests_are_sent_away_and_the_others_are_answered() -> None:
    with Server(generation_service(max_requests=2)) as server:
        body = {"prompt": ["some", "text"], "max_tokens": 100, "ignore_eos": True}
        with server.client.stream("POST", COMPLETIONS, json={**body, "stream": True}) as stream:
            lines = stream.iter_lines()
            next(lines)
            refused = server.post(COMPLETIONS, prompt="a")
            rest = list(lines)
        wide = server.post(COMPLETIONS, prompt=["a"] * 3)
        later = server.post(COMPLETIONS, prompt="a")

    assert refused.status_code == 429
    assert refused.headers["retry-after"] == "1"
    assert refused.json()["error"]["type"] == "rate_limit_error"
    assert rest[-2] == "data: [DONE]"
    assert wide.status_code == 422
    assert later.status_code == 200


def test_a_model_that_breaks_down_fails_those_under_way_and_no_others(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with Server(generation_service()) as server:
        with monkeypatch.context() as patch:
            patch.setattr(Engine, "_logits", lambda *_: 1 / 0)
            failed = server.post(COMPLETIONS, prompt="some")
            streamed = chunks(server.post(CHAT, messages=[MESSAGE], stream=True))
        after = server.post(COMPLETIONS, prompt="some", max_tokens=3, **GREEDY)

        assert failed.status_code == 500
        assert failed.json()["error"]["type"] == "server_error"
        assert "the engine failed" in streamed[-1]["error"]["message"]
        assert after.json()["choices"][0]["text"] == expected("some", max_tokens=3).text
        assert server.held_blocks() == 0


async def stream_all(url: str, bodies: list[dict[str, Any]]) -> list[str]:
    async def text_of(client: Any, body: dict[str, Any]) -> str:
        answer = await client.post(COMPLETIONS, json=body)
        return "".join(part["choices"][0]["text"] for part in chunks(answer))

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=url, timeout=120, limits=limits) as client:
        return await asyncio.gather(*(text_of(client, body) for body in bodies))


def test_64_streams_at_a_time_are_each_that_of_its_prompt() -> None:
    prompts = [f"some text {number}" for number in range(64)]
    bodies = [{"prompt": prompt, "max_tokens": 8, "stream": True, **GREEDY} for prompt in prompts]
    with Server(generation_service(batch_size=64)) as server:
        texts = asyncio.run(stream_all(server.url, bodies))
        held = server.held_blocks()

    completions = generate(MODEL, TOKENIZER, prompts, SamplingSettings(max_tokens=8))
    assert texts == [completion.text for completion in completions]
    assert held == 0


def test_a_seed_gives_the_same_sample_alone_and_among_others() -> None:
    body = {"prompt": "some text", "max_tokens": 8, "seed": 5, "top_k": 20, "stream": True}
    others = [{**body, "seed": number} for number in range(6, 12)]
    with Server(generation_service()) as server:
        (alone,) = asyncio.run(stream_all(server.url, [body]))
        among = asyncio.run(stream_all(server.url, [*others, body]))

    settings = {"max_tokens": 8, "seed": 5, "temperature": 1.0, "top_k": 20}
    assert alone == expected("some text", **settings).text
    assert among[-1] == alone
    assert len(set(among)) > 1
