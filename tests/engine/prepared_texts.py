"""A small corpus of many parts, and its preparation."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from weldlm.data.pipeline import DataSettings, Learner, prepare_data
from weldlm.tokenizer import Tokenizer

__all__ = ["BYTES", "LEARNER", "contents", "prepare", "write_texts"]

PART_BYTES = 1_500


def write_texts(folder: Path, numbers: Iterable[int] = range(60)) -> None:
    """Writes files of which every seventh repeats another."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        about = number - 1 if number % 7 == 6 else number
        word = hashlib.sha256(b"%d" % about).hexdigest()
        (folder / f"{number:03d}.txt").write_text(f"text {about} about {word}\n" * 4)


BYTES = Tokenizer.train(["bytes alone"], 257)


LEARNER = Learner(lambda texts: Tokenizer.train(texts, 300, allow_smaller=True), "of size 300")


def prepare(folder: Path, *, data: str = "texts", **changes: Any) -> dict[str, Any]:
    """Makes `folder` / corpus of `folder` / `data`."""
    options = {
        name: changes.pop(name)
        for name in ("replace", "tokenizer", "num_workers")
        if name in changes
    }
    settings = DataSettings(**{"part_bytes": PART_BYTES, "held_out": 0.2, **changes})
    return prepare_data(
        [folder / data],
        folder / "corpus",
        settings,
        **{"num_workers": 1, "tokenizer": BYTES, **options},
    )


def contents(folder: Path) -> dict[str, bytes]:
    """What every file below a folder holds."""
    paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}
