"""Damaged files of every format: refused in one line with their name, or read; never more.

The reader runs in a process of its own with little memory and time, so that a crash, a loop without
end or a huge list is a failure of the test and not of the run.
"""

import functools
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from tests.engine.tokenizer_files import FORMATS, OPTIONS, content, written

MOST_SECONDS = 600

# reads each file that stdin names, with options; prints what became of it, a JSON string a line
READER = """
import json, resource, sys
from weldlm.tokenizer import Tokenizer
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
for line in sys.stdin:
    path, options = json.loads(line)
    try:
        Tokenizer.from_file(path, **options).encode("the thesis is 12 \\xe9", disallowed_special=())
        print(json.dumps("read"))
    except ValueError as error:
        text = str(error)
        is_fine = text.startswith(path) and "\\n" not in text and len(text) < 600
        print(json.dumps("refused" if is_fine else "badly refused: " + text[:300]))
    except Exception as error:
        print(json.dumps(f"{type(error).__name__}: {error}"))
"""

# what is cut off at the end of a line or a field may be whole without it
ALWAYS_REFUSED_WHEN_CUT = [
    "json-bpe",
    "json-wordpiece",
    "json-unigram",
    "json-llama",
    "vocab-json",
    "gguf-bpe",
    "gguf-spiece",
]


def outcomes(name: str, files: list[bytes]) -> list[str]:
    """What becomes of each file."""
    options = OPTIONS.get(name, {})
    with TemporaryDirectory() as folder:
        places = [Path(folder) / str(number) for number, _ in enumerate(files)]
        for place in places:
            place.mkdir()
        paths = [
            written(name, place, "tokenizer", data)
            for place, data in zip(places, files, strict=True)
        ]
        done = subprocess.run(
            [sys.executable, "-c", READER],
            input="".join(f"{json.dumps([str(path), options])}\n" for path in paths),
            env=os.environ | {"OPENBLAS_NUM_THREADS": "1"},
            capture_output=True,
            text=True,
            timeout=MOST_SECONDS,
        )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


@functools.cache
def outcomes_of_cuts(name: str) -> list[str]:
    return outcomes(name, cuts(content(name).rstrip()))


def cuts(data: bytes) -> list[bytes]:
    """The file up to some places, all of them near its beginning and its end."""
    size = len(data)
    places = {*range(min(size, 12)), *range(max(size - 12, 0), size), *range(0, size, size // 30)}
    return [data[:place] for place in sorted(places)]


def mutants(data: bytes, seed: str, count: int) -> list[bytes]:
    """The file with some bytes exchanged, left out, repeated, or made a large number."""
    draw = random.Random(seed)
    made = []
    for _ in range(count):
        changed = bytearray(data)
        for _ in range(draw.choice((1, 1, 3, 20))):
            at = draw.randrange(len(changed))
            match draw.randrange(5):
                case 0:
                    changed[at] = draw.randrange(256)
                case 1:
                    changed[at] ^= 1 << draw.randrange(8)
                case 2:
                    del changed[at : at + draw.randrange(1, 9)]
                case 3:
                    changed[at:at] = changed[at : at + draw.randrange(1, 30)]
                case 4:
                    large = draw.choice((b"\xff\xff\xff\xff", b"\0\0\0\x80", b"99999999999"))
                    changed[at : at + len(large)] = large
        made.append(bytes(changed))
    return made


@pytest.mark.parametrize("name", FORMATS)
def test_cut_off_file_does_no_harm(name: str) -> None:
    found = outcomes_of_cuts(name)

    assert set(found) <= {"refused", "read"}
    assert found[0] == "refused"


@pytest.mark.parametrize("name", ALWAYS_REFUSED_WHEN_CUT)
def test_cut_off_file_is_refused(name: str) -> None:
    assert set(outcomes_of_cuts(name)) == {"refused"}


@pytest.mark.parametrize("name", FORMATS)
def test_changed_bytes_do_no_harm(name: str) -> None:
    found = outcomes(name, mutants(content(name), name, 50))

    assert set(found) <= {"refused", "read"}
    assert "refused" in found


@pytest.mark.slow
@pytest.mark.parametrize("name", FORMATS)
def test_many_changed_bytes_do_no_harm(name: str) -> None:
    found = outcomes(name, mutants(content(name), f"many of {name}", 3000))

    assert set(found) <= {"refused", "read"}
