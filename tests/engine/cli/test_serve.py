"""`weldlm serve` as a program: it says where it listens, answers, and ends by a signal."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.engine.tiny_models import tiny_model
from weldlm.cli import main
from weldlm.cli.model_folder import keep_model
from weldlm.tokenizer import Tokenizer

httpx = pytest.importorskip("httpx")
pytest.importorskip("uvicorn")
pytest.importorskip("starlette")

from weldlm.serve.run import bind  # noqa: E402


@pytest.fixture(name="folder", scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("serve") / "tiny"
    tokenizer = Tokenizer.train(["some text " * 50], 262)
    keep_model(tiny_model(vocab_size=tokenizer.vocab_size), tokenizer, folder)
    return folder


def test_a_server_answers_until_sigterm(folder: Path) -> None:
    program = [sys.executable, "-m", "weldlm", "serve", "--model", str(folder), "--port", "0"]

    with subprocess.Popen(program, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        line = process.stderr.readline()
        found = re.fullmatch(r"serving tiny at (http://127\.0\.0\.1:\d+/v1)\n", line)
        assert found, line
        body = {"model": "tiny", "prompt": "some", "max_tokens": 3}
        answer = httpx.post(f"{found[1]}/completions", json=body, timeout=120)
        process.send_signal(signal.SIGTERM)
        code = process.wait(120)

    assert answer.status_code == 200
    assert answer.json()["usage"]["completion_tokens"] == 3
    assert code == 143


def test_a_port_that_is_taken_is_said_in_one_line(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with bind("127.0.0.1", 0) as taken, pytest.raises(SystemExit) as exit_:
        main(["serve", "--model", str(folder), "--port", str(taken.getsockname()[1])])

    error = capsys.readouterr().err
    assert exit_.value.code == 1
    assert error.count("\n") == 1
    assert "address already in use" in error
