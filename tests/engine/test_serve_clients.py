"""Clients of a server that leave in the midst of an answer, and OpenAI's own client."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.engine.running_server import (
    COMPLETIONS,
    MESSAGE,
    Server,
    eventually,
    expected,
    generation_service,
    httpx,
)


@contextmanager
def left(server: Server, *, is_streamed: bool) -> Iterator[None]:
    """A call whose client leaves in the midst of the answer."""
    body = {"prompt": "some", "max_tokens": 240, "ignore_eos": True, "stream": is_streamed}
    calls = server.metric("weldlm_prompt_tokens_total")
    with httpx.Client(base_url=server.url, timeout=60 if is_streamed else 0.05) as client:
        if is_streamed:
            with client.stream("POST", COMPLETIONS, json=body) as answer:
                next(answer.iter_lines())
        else:
            with pytest.raises(httpx.ReadTimeout):
                client.post(COMPLETIONS, json=body)
    assert server.metric("weldlm_prompt_tokens_total") > calls
    yield


@pytest.mark.parametrize(
    "number", [pytest.param(10, id="10"), pytest.param(200, id="200", marks=pytest.mark.slow)]
)
def test_clients_that_leave_free_their_blocks(number: int) -> None:
    with Server(generation_service(batch_size=16)) as server:
        for place in range(number):
            with left(server, is_streamed=place % 5 > 0):
                pass

        assert eventually(lambda: server.held_blocks() == 0)
        assert eventually(lambda: server.metric("weldlm_aborted_calls_total") > number / 2)
        assert server.metric("weldlm_requests_running") == 0
        assert server.metric("weldlm_requests_waiting") == 0


def test_a_client_that_does_not_read_holds_up_nobody() -> None:
    body = {
        "prompt": "some",
        "max_tokens": 240,
        "ignore_eos": True,
        "n": 4,
        "stream": True,
        "logprobs": 5,
    }
    asked = {"prompt": "some", "max_tokens": 5, "temperature": 0}
    with Server(generation_service(batch_size=8)) as server:
        with httpx.stream("POST", server.url + COMPLETIONS, json=body, timeout=60) as answer:
            next(answer.iter_lines())
            texts = [server.post(COMPLETIONS, **asked).json() for _ in range(5)]

        assert eventually(lambda: server.held_blocks() == 0)
    found = {text["choices"][0]["text"] for text in texts}
    assert found == {expected("some", max_tokens=5).text}


@pytest.mark.slow
def test_the_client_of_openai_works() -> None:
    openai = pytest.importorskip("openai")
    with Server(generation_service()) as server:
        check_client(openai, server)


def check_client(openai: Any, server: Server) -> None:
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)
    messages = [MESSAGE]

    chat = client.chat.completions.create(
        model="tiny", messages=messages, max_tokens=6, temperature=0, logprobs=True, top_logprobs=2
    )
    stream = client.chat.completions.create(
        model="tiny", messages=messages, max_tokens=6, temperature=0, stream=True
    )
    pieces = [part.choices[0].delta.content or "" for part in stream]
    completion = client.completions.create(
        model="tiny", prompt="some", max_tokens=3, temperature=0, logprobs=1, echo=True
    )

    assert client.models.list().data[0].id == "tiny"
    text = expected("<user>some\n<assistant>", max_tokens=6).text
    assert chat.choices[0].message.content == text
    assert len(chat.choices[0].logprobs.content) == chat.usage.completion_tokens
    assert "".join(pieces) == text
    assert completion.choices[0].text == "some" + expected("some", max_tokens=3).text
    with pytest.raises(openai.UnprocessableEntityError, match="top_p is 3"):
        client.completions.create(model="tiny", prompt="some", top_p=3)
    with pytest.raises(openai.NotFoundError, match="does not exist"):
        client.completions.create(model="other", prompt="some")
    with pytest.raises(openai.BadRequestError, match="300 tokens"):
        client.completions.create(model="tiny", prompt="z" * 300)
