"""A tokenizer in other processes, under signals, and within bounded memory."""

import json
import multiprocessing
import random
import signal
import string
import subprocess
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.engine.tokenizer_files import content, learned
from weldlm.cli import terminal
from weldlm.cli.vocabulary import learn_tokenizer

LONG = "a" * 30_000_000
MOST_MEMORY = 1 << 30


@pytest.mark.parametrize("algorithm", ["bpe", "wordpiece", "unigram"])
def test_spawned_process_encodes_alike(algorithm: str) -> None:
    tokenizer, text = learned(algorithm), "the thesis is 12 there! \xe9t\xe9"

    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        ids = pool.submit(tokenizer.encode, text).result()

    assert ids == tokenizer.encode(text)


class LateError(Exception):
    """Raised by a signal."""


def test_signal_ends_the_encoding_of_many_texts() -> None:
    draw = random.Random(0)
    # words that no cache keeps
    words = ("".join(draw.choices(string.ascii_letters, k=200)) for _ in range(500))
    texts = [" ".join(words)] * 3_000  # takes many seconds
    raised: list[float] = []

    def stop(*_: object) -> NoReturn:
        raised.append(time.monotonic())
        raise LateError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, 0.2)
    began = time.monotonic()
    try:
        with pytest.raises(LateError):
            learned("bpe").encode_batch(texts, num_threads=1)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)

    assert raised[0] - began < 1.2
    assert time.monotonic() - raised[0] < 1.0


LEARNER = """
import random, re, sys
from weldlm.tokenizer import Tokenizer

def status_bytes(name):
    text = open("/proc/self/status").read()
    return 1024 * int(re.search(name + r":\\s+(\\d+) kB", text)[1])

draw = random.Random(0)
words = ["".join(draw.choices("abcdefgh", k=6)) for _ in range(2000)]
part = " ".join(draw.choices(words, k=10_000))
texts = (f"{number} {part}" for number in range(int(sys.argv[1])))
Tokenizer.train([part], 400)  # what is imported is there
before = status_bytes("VmRSS")
Tokenizer.train(texts, 400, num_threads=1)
print((status_bytes("VmHWM") - before) >> 20, int(sys.argv[1]) * len(part) >> 20)
"""


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the peak is read from /proc")
def test_training_from_an_iterator_takes_bounded_memory() -> None:
    done = subprocess.run(
        [sys.executable, "-c", LEARNER, "2400"], capture_output=True, text=True, check=True
    )

    peak, total = map(int, done.stdout.split())
    assert total > 150
    assert peak < 60  # MiB: batches of 16 Mi characters, and the words that were counted


def test_training_shows_its_progress(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(terminal, "_SECONDS_BETWEEN_LINES", 0.0)

    learn_tokenizer(["the theme of the thesis " * 20], 265)

    lines = capsys.readouterr().err.splitlines()
    assert lines[-1] == "learning the vocabulary: 265/265"


READER = f"""
import resource, sys
from weldlm.tokenizer import Tokenizer
resource.setrlimit(resource.RLIMIT_AS, ({MOST_MEMORY}, {MOST_MEMORY}))
try:
    Tokenizer.from_file(sys.argv[1]).encode("the thesis", disallowed_special=())
    print("read")
except ValueError as error:
    print(str(error))
"""
ADDED = {"id": 290, "content": LONG, "single_word": False, "lstrip": False, "rstrip": False,
         "normalized": False, "special": True}  # fmt: skip
PLACES: dict[str, tuple[str, dict[str, Any], str]] = {
    "added": ("json-bpe", {"added_tokens": [ADDED]}, "token 290 has 30,000,000 bytes; expected at"),
    "prepend": (
        "json-llama",
        {"normalizer": {"type": "Prepend", "prepend": LONG}},
        "prepend is a string of 30,000,000 characters, expected at most 1,000",
    ),
    "field": ("json-bpe", {LONG: 1}, "tokenizer.json has the unknown field 'aaaa"),
    "type": ("json-unigram", {"model": {"type": LONG}}, "model has 'type' = "),
}


@pytest.mark.parametrize(("name", "changes", "message"), PLACES.values(), ids=PLACES.keys())
def test_string_of_many_megabytes_is_refused(
    name: str, changes: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(json.loads(content(name)) | changes))

    said = subprocess.run(
        [sys.executable, "-c", READER, path], capture_output=True, text=True, check=True
    ).stdout

    assert message in said
    assert len(said) < 600 + len(str(path))


@pytest.mark.parametrize("name", ["json-bpe", "json-wordpiece", "json-llama"])
def test_token_of_many_megabytes_is_refused(name: str, tmp_path: Path) -> None:
    document = json.loads(content(name))
    number = len(document["model"]["vocab"])
    document["model"]["vocab"][LONG] = number
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document))

    said = subprocess.run(
        [sys.executable, "-c", READER, path], capture_output=True, text=True, check=True
    ).stdout

    assert f"token {number} has 30,000,000 bytes; expected at most 65,536" in said
