"""A server in a thread, as several tests talk with one."""

import json
import threading
import time
from typing import Any

import pytest

from tests.engine.cli.test_chat import chatting_tokenizer
from tests.engine.tiny_models import tiny_model
from weldlm.batch_limits import BatchLimits
from weldlm.engine import Engine
from weldlm.generation import generate
from weldlm.openai_api import ApiModel
from weldlm.sampling_settings import SamplingSettings

httpx = pytest.importorskip("httpx")
uvicorn = pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

from weldlm.serve import GenerationService, ServeLimits, build_app  # noqa: E402
from weldlm.serve.run import bind  # noqa: E402

LENGTH = 256
TOKENIZER = chatting_tokenizer()
MODEL = tiny_model(vocab_size=TOKENIZER.vocab_size, context_length=LENGTH)
COMPLETIONS, CHAT = "/v1/completions", "/v1/chat/completions"
GREEDY = {"temperature": 0}
MESSAGE = {"role": "user", "content": "some"}


class Server:
    """A server in a thread, and a client of it."""

    def __init__(self, service: Any, **options: Any) -> None:
        self.service, self.socket = service, bind("127.0.0.1", 0)
        self.url = f"http://127.0.0.1:{self.socket.getsockname()[1]}"
        config = uvicorn.Config(
            build_app(service, **options), log_level="warning", timeout_graceful_shutdown=1
        )
        self.server = uvicorn.Server(config)
        self.thread = threading.Thread(target=self.server.run, args=([self.socket],), daemon=True)
        self.client = httpx.Client(base_url=self.url, timeout=120)

    def __enter__(self) -> "Server":
        self.thread.start()
        while not self.server.started:
            time.sleep(0.01)
        return self

    def __exit__(self, *_: object) -> None:
        self.client.close()
        self.server.should_exit = True
        self.thread.join()
        self.socket.close()

    def post(self, path: str, **body: Any) -> Any:
        return self.client.post(path, json=body)

    def held_blocks(self) -> int:
        return int(self.metric("weldlm_cache_blocks_held"))

    def metric(self, name: str) -> float:
        lines = self.client.get("/metrics").text.splitlines()
        return float(next(line.split()[-1] for line in lines if line.split()[0] == name))


def generation_service(batch_size: int = 8, **limits: Any) -> GenerationService:
    api_model = ApiModel(name="tiny", config=MODEL.config, tokenizer=TOKENIZER, max_length=LENGTH)
    engine = Engine(MODEL, TOKENIZER, BatchLimits(batch_size=batch_size, max_length=LENGTH))
    return GenerationService(api_model, engine, ServeLimits(**limits))


def expected(prompt: str, **settings: Any) -> Any:
    return generate(MODEL, TOKENIZER, [prompt], SamplingSettings(**settings))[0]


def chunks(response: Any) -> list[dict[str, Any]]:
    lines = [line.removeprefix("data: ") for line in response.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def eventually(holds: Any) -> bool:
    deadline = time.monotonic() + 60
    while not holds():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.02)
    return True
