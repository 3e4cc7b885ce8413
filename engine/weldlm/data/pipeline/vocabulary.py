"""The tokenizer of a corpus: one that was given, or one that is learned once and then kept.

More texts do not change a vocabulary that was learned: what was encoded with it stays valid.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from weldlm.atomic_file import replace_text
from weldlm.data.pipeline.selection import Selection
from weldlm.data.pipeline.token_files import selected_texts
from weldlm.tokenizer import Tokenizer

__all__ = ["Learner", "settle_tokenizer"]

_MOST_CHARACTERS = 1 << 30  # of the texts that a vocabulary is learned from

_FILE, _RECORD = "tokenizer.json", "vocabulary.json"


@dataclass(frozen=True, slots=True)
class Learner:
    """How a vocabulary is learned."""

    learn: Callable[[Iterable[str]], Tokenizer]
    what: str  # it says, such as its size; another one is another vocabulary


def settle_tokenizer(
    wanted: Tokenizer | Learner,
    selection: Selection,
    folder: Path,
    *,
    kept: Path | None,
    held_out: float,
) -> Tokenizer:
    """Returns the tokenizer that is wanted, or learned in this way before, or learned now.

    Args:
        wanted: a tokenizer, or how to learn one.
        selection: the texts to learn from.
        folder: of the work.
        kept: file of the tokenizer that an earlier run learned in this way.
        held_out: share of a single document.
    """
    if isinstance(wanted, Tokenizer):
        return wanted
    if kept is not None:
        return Tokenizer.from_file(kept)
    path = folder / _FILE
    record = json.dumps({"what": wanted.what, "texts": _name_texts(selection)}) + "\n"
    if _read(folder / _RECORD) != record or not path.is_file():
        (folder / _RECORD).unlink(missing_ok=True)
        wanted.learn(_texts_to_learn(selection, held_out)).save(path)
        replace_text(folder / _RECORD, record)
    return Tokenizer.from_file(path)


def _texts_to_learn(selection: Selection, held_out: float) -> Iterator[str]:
    """All texts, or where they are too many those of every second part, and so on."""
    sizes = [int(part.sizes.sum()) for part in selection.parts]
    step = max(-(-sum(sizes) // _MOST_CHARACTERS), 1)
    indices = range(0, len(sizes), step)
    return selected_texts(selection, selection.is_train, indices, held_out)


def _name_texts(selection: Selection) -> str:
    digest = hashlib.sha256(selection.is_train.tobytes())
    for part in selection.parts:
        digest.update(part.digests.tobytes())
    return digest.hexdigest()


def _read(path: Path) -> str | None:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return None
