"""`weldlm chat` in a pseudo-terminal, as a user sees it, and by a pipe."""

import json
import os
import pty
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.engine.tiny_models import tiny_model
from weldlm.cli.model_folder import keep_model
from weldlm.conversation import Conversation
from weldlm.generation import generate
from weldlm.sampling_settings import SamplingSettings
from weldlm.tokenizer import Tokenizer

TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
LONG = 4_000  # tokens of an answer that is stopped


def chatting_tokenizer() -> Tokenizer:
    tokenizer = Tokenizer.train(["some text " * 50], 262)
    config = replace(tokenizer.config, chat_templates={"default": TEMPLATE})
    return Tokenizer(tokenizer.parts, config)


@pytest.fixture(name="folder", scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chat")
    tokenizer = chatting_tokenizer()
    model = tiny_model(vocab_size=tokenizer.vocab_size, context_length=8_192)
    keep_model(model, tokenizer, folder / "model")
    template = {"chat_template": TEMPLATE}
    (folder / "model" / "tokenizer_config.json").write_text(json.dumps(template))
    return folder


class Terminal:
    """A program that believes to talk with a person."""

    def __init__(self, *arguments: str, folder: Path) -> None:
        self.file, theirs = pty.openpty()
        program = [sys.executable, "-m", "weldlm", "chat", "--model", "model", *arguments]
        variables = {**os.environ, "TERM": "dumb", "OMP_NUM_THREADS": "1"}
        self.process = subprocess.Popen(
            program,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=folder,
            env=variables,
            start_new_session=True,
        )
        os.close(theirs)
        self.seen = ""

    def type(self, line: str) -> None:
        os.write(self.file, f"{line}\n".encode())

    def wait_for(self, pattern: str) -> str:
        """Reads until the pattern is there; returns what came, with it."""
        deadline = time.monotonic() + 120
        while not (found := re.search(pattern, self.seen)):
            assert time.monotonic() < deadline, self.seen[-500:]
            if select.select([self.file], [], [], 1.0)[0]:
                self.seen += os.read(self.file, 65_536).decode("utf-8", "replace")
        before, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return before

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self.file)


@pytest.fixture(name="terminal")
def terminal_with_a_chat(folder: Path) -> Iterator[Terminal]:
    terminal = Terminal("--max-tokens", str(LONG), "--system", "Be brief.", folder=folder)
    yield terminal
    terminal.close()


def test_ctrl_c_stops_the_answer_and_the_chat_goes_on(terminal: Terminal, folder: Path) -> None:
    terminal.wait_for(">>> ")

    terminal.type("some text")
    terminal.wait_for(r"some text\r?\n[^>]{9}")
    terminal.process.send_signal(signal.SIGINT)
    terminal.wait_for(">>> ")
    terminal.type("/save talk.jsonl")
    terminal.wait_for("talk.jsonl: 3 messages")
    terminal.type("/quit")

    assert terminal.process.wait(60) == 0
    messages = json.loads((folder / "talk.jsonl").read_text())["messages"]
    assert [message["role"] for message in messages] == ["system", "user", "assistant"]
    assert 0 < len(messages[2]["content"]) < LONG


def test_commands_say_and_change_what_they_name(folder: Path) -> None:
    lines = "/help\n/system Be kind.\n/system\n/reset\n/system\n/nonsense\nsome text\n"
    program = [sys.executable, "-m", "weldlm", "chat", "--model", "model", "--max-tokens", "4"]

    done = subprocess.run(program, input=lines, capture_output=True, text=True, cwd=folder)

    assert done.returncode == 0
    assert "/save FILE" in done.stdout
    assert done.stdout.count("Be kind.\n") == 2
    assert done.stderr == "/nonsense is no command; /help lists them\n"
    tokenizer = Tokenizer.from_pretrained(folder / "model")
    model = tiny_model(vocab_size=tokenizer.vocab_size, context_length=8_192)
    prompt = "<system>Be kind.\n<user>some text\n<assistant>"
    (expected,) = generate(model, tokenizer, [prompt], SamplingSettings(max_tokens=4))
    assert done.stdout.endswith(f"Be kind.\n{expected.text}\n")


def test_answers_go_on_from_the_history() -> None:
    tokenizer = chatting_tokenizer()
    model = tiny_model(vocab_size=tokenizer.vocab_size, context_length=128)
    settings = SamplingSettings(max_tokens=6)
    conversation = Conversation(model, tokenizer, settings)

    first = "".join(conversation.answer("some"))
    second = "".join(conversation.answer("text"))

    history = f"<user>some\n<assistant>{first}\n<user>text\n<assistant>"
    (expected,) = generate(model, tokenizer, [history], settings)
    assert second == expected.text


def test_a_conversation_that_is_too_long_is_refused_and_stays_as_it_was() -> None:
    tokenizer = chatting_tokenizer()
    model = tiny_model(vocab_size=tokenizer.vocab_size, context_length=64)
    conversation = Conversation(model, tokenizer, SamplingSettings(max_tokens=6))

    with pytest.raises(ValueError, match=r"the (prompt|conversation) has \d+ tokens; expected"):
        list(conversation.answer("z" * 80))

    assert conversation.messages == []
