"""Steps of a tokenizer.json that would make much of a short text, or take long, are refused."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest

from tests.engine.tokenizer_files import content
from weldlm.tokenizer import Tokenizer

LONG = "a" * 100_000


def replacing(pattern: str, text: str) -> dict[str, Any]:
    return {"type": "Replace", "pattern": {"String": pattern}, "content": text}


def steps(*rows: dict[str, Any]) -> dict[str, Any]:
    return {"normalizer": {"type": "Sequence", "normalizers": [*rows]}}


def decoding(pattern: str, text: str) -> dict[str, Any]:
    rows = [replacing(pattern, text), {"type": "ByteFallback"}, {"type": "Fuse"}]
    return {"decoder": {"type": "Sequence", "decoders": rows}}


def charsmap(size: int) -> dict[str, Any]:
    """Of one rule, which makes `size` bytes of a letter."""
    units = [0] * 1024
    units[0] = 256 << 10
    units[256 ^ ord("a")] = (256 ^ ord("a") ^ 512) << 10 | 1 << 8 | ord("a")
    units[512] = 1 << 31
    words = b"".join(unit.to_bytes(4, "little") for unit in [4096, *units])
    blob = base64.b64encode(words + b"x" * size + b"\0").decode()
    return {"normalizer": {"type": "Precompiled", "precompiled_charsmap": blob}}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "prepend": (
        {"normalizer": {"type": "Prepend", "prepend": LONG}},
        "prepend is a string of 100,000 characters, expected at most 1,000",
    ),
    "content": (
        {"normalizer": replacing(" ", LONG)},
        "content is a string of 100,000 characters, expected at most 1,000",
    ),
    "pattern": (
        {"normalizer": replacing(LONG, "a")},
        "pattern is a string of 100,000 characters, expected at most 1,000",
    ),
    "growth": (
        steps(replacing("a", "a" * 100), replacing(" ", "_"), replacing("a", "a" * 100)),
        "normalizer 2 of 3 is too much work; expected at most 256 that make a text at most 4,000",
    ),
    "steps": (steps(*[replacing("a", "b")] * 300), "normalizer 256 of 300 is too much work"),
    "decoder": (
        decoding("\u2581", LONG),
        "decoder has the content .* expected at most 8 bytes for each character",
    ),
    "charsmap": (charsmap(1001), "which is not a replacement of at most 1000 bytes"),
}
READ: dict[str, dict[str, Any]] = {
    "content": {"normalizer": replacing(" ", "b" * 1000)},
    "growth": steps(replacing("a", "b" * 60), replacing("b", "c" * 60)),
    "steps": steps(*[replacing("a", "b")] * 256),
    "decoder": decoding("\u2581", " " * 8),
    "charsmap": charsmap(1000),
}


def written(changes: dict[str, Any], folder: Path) -> Path:
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(content("json-llama")) | changes))
    return path


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_much_work_is_refused(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=rf"^[^\n]*{message}[^\n]*$") as caught:
        Tokenizer.from_file(written(changes, tmp_path))

    assert len(str(caught.value)) < 600


@pytest.mark.parametrize("changes", READ.values(), ids=READ.keys())
def test_work_at_the_limit_is_read(changes: dict[str, Any], tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(written(changes, tmp_path))

    assert 0 < len(tokenizer.encode("a b a b")) <= 4_000 * len("a b a b")
