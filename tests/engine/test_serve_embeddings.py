"""Embeddings over real sockets: calls share steps, and each gets what its texts alone get."""

import base64
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch

from tests.engine.running_server import COMPLETIONS, TOKENIZER, Server, eventually, httpx
from tests.engine.tiny_models import tiny_config
from weldlm.batch_limits import BatchLimits
from weldlm.config import ModelConfig
from weldlm.encoding import encode_text
from weldlm.heads import SentenceEmbedder
from weldlm.openai_api import ApiModel
from weldlm.packing import PackedBatch
from weldlm.serve import EmbeddingService, ServeLimits

EMBEDDINGS = "/v1/embeddings"


def test_embeddings_are_those_of_the_model() -> None:
    config = tiny_config("bert-tiny", vocab_size=TOKENIZER.vocab_size)
    torch.manual_seed(0)
    embedder = SentenceEmbedder(config).eval()
    api_model = ApiModel(name="tiny", config=config, tokenizer=TOKENIZER, max_length=64)
    texts = ["some", "some text " * 3]
    rows = [encode_text(config, TOKENIZER, text) for text in texts]

    with Server(EmbeddingService(api_model, embedder, ServeLimits())) as server:
        plain = server.post("/v1/embeddings", input=texts).json()
        packed = server.post("/v1/embeddings", input=rows, encoding_format="base64").json()
        long = server.post("/v1/embeddings", input="z" * 65)
        wrong = server.post(COMPLETIONS, prompt="a")

    with torch.no_grad():
        vectors = [embedder(PackedBatch.from_sequences([row]))[0] for row in rows]
    decoded = [np.frombuffer(base64.b64decode(item["embedding"]), "<f4") for item in packed["data"]]
    for found, same, vector in zip(plain["data"], decoded, vectors, strict=True):
        np.testing.assert_allclose(found["embedding"], vector.numpy(), atol=1e-6)
        np.testing.assert_allclose(same, vector.numpy(), atol=1e-6)
    assert plain["usage"]["total_tokens"] == sum(map(len, rows))
    assert (long.status_code, wrong.status_code) == (400, 404)


class SlowEmbedder(SentenceEmbedder):
    """Notes the lengths in each step, and stays in the first one until it may go on."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__(config)
        self.steps: list[list[int]] = []
        self.may_go_on = threading.Event()

    def forward(self, batch: PackedBatch, **options: Any) -> torch.Tensor:
        self.steps.append(batch.offsets.diff().tolist())
        assert self.may_go_on.wait(60)
        if 9 in self.steps[-1]:
            raise RuntimeError("broken")
        return super().forward(batch, **options)


def wait_for_calls(server: Server, number: int) -> None:
    assert eventually(lambda: server.service._num_open == number)


@contextmanager
def embedding_server(**limits: int) -> Iterator[tuple[Server, SlowEmbedder]]:
    config = tiny_config("bert-tiny", vocab_size=TOKENIZER.vocab_size)
    torch.manual_seed(0)
    embedder = SlowEmbedder(config).eval()
    api_model = ApiModel(name="tiny", config=config, tokenizer=TOKENIZER, max_length=64)
    service = EmbeddingService(api_model, embedder, ServeLimits(), batch=BatchLimits(**limits))
    with Server(service) as server:
        yield server, embedder


def test_rows_of_several_embedding_calls_share_steps_under_the_budget() -> None:
    inputs = [[[5, 7]], [[3, 4, 5], [6]], [[8] * 4], [[5, 6, 7]], [[2] * 20], [[1]]]
    with embedding_server(max_batch_tokens=10) as (server, embedder), ThreadPoolExecutor(8) as pool:
        first = pool.submit(server.post, EMBEDDINGS, input=inputs[0])
        assert eventually(lambda: len(embedder.steps) == 1)
        others = []
        for number, rows in enumerate(inputs[1:], 2):
            others.append(pool.submit(server.post, EMBEDDINGS, input=rows))
            wait_for_calls(server, number)
        embedder.may_go_on.set()
        answers = [first.result().json(), *(other.result().json() for other in others)]

    assert embedder.steps == [[2], [4, 3, 1], [3], [20], [1]]
    for rows, answer in zip(inputs, answers, strict=True):
        for ids, item in zip(rows, answer["data"], strict=True):
            with torch.no_grad():
                alone = embedder(PackedBatch.from_sequences([ids]))[0]
            np.testing.assert_allclose(item["embedding"], alone.numpy(), atol=1e-6)


def test_embedding_calls_that_are_left_or_fail_leave_the_others_alone() -> None:
    with embedding_server(batch_size=1) as (server, embedder), ThreadPoolExecutor(8) as pool:
        first = pool.submit(server.post, EMBEDDINGS, input=[[5, 7]])
        assert eventually(lambda: len(embedder.steps) == 1)
        body = {"input": [[1, 2, 3]]}
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(server.url + EMBEDDINGS, json=body, timeout=0.2)
        wait_for_calls(server, 1)
        failing = pool.submit(server.post, EMBEDDINGS, input=[[1] * 9])
        wait_for_calls(server, 2)
        embedder.may_go_on.set()
        codes = first.result().status_code, failing.result().status_code
        later = server.post(EMBEDDINGS, input=[[1] * 4])

    assert codes == (200, 500)
    assert later.status_code == 200
    assert embedder.steps == [[2], [9], [4]]
