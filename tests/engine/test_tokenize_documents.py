"""Texts become shards: the same bytes as from lists of ids, whatever the size of an id."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.engine.tokenizer_oracles import small, standard_library_texts
from weldlm.data.corpus import Document
from weldlm.data.prepare import tokenize_documents
from weldlm.data.shards import write_shards
from weldlm.tokenizer import Tokenizer
from weldlm.tokenizer.parts import Template, TemplatePiece

TEXTS = ["", "one two", "\u4e2d\u6587 <|endoftext|>", *standard_library_texts(6)]
WIDE_VOCAB_SIZE = 70_000


def wide() -> Tokenizer:
    """A vocabulary whose ids need more than two bytes, with the last one around every text."""
    parts = small().parts
    tokens = parts.tokens + [b""] * (WIDE_VOCAB_SIZE - len(parts.tokens))
    last = TemplatePiece((WIDE_VOCAB_SIZE - 1,))
    template = Template(single=(last, TemplatePiece("A")))
    return Tokenizer(replace(parts, tokens=tokens, template=template))


@pytest.mark.parametrize("tokenizer", [small, wide], ids=["uint16", "uint32"])
def test_shards_are_those_of_lists_of_ids(
    tokenizer: Callable[[], Tokenizer], tmp_path: Path
) -> None:
    ours = tokenizer()
    end = ours.eos_id
    rows = [[end, *ours.encode(text, disallowed_special=()), end] for text in TEXTS]
    written = write_shards(
        tmp_path / "lists", [np.array(row) for row in rows], vocab_size=ours.vocab_size
    )

    shards = tokenize_documents(
        [Document(str(i), text) for i, text in enumerate(TEXTS)], ours, tmp_path / "texts"
    )

    names = ["tokens-00000.bin", "offsets.bin"]
    assert [(shards.folder / name).read_bytes() for name in names] == [
        (written.folder / name).read_bytes() for name in names
    ]


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32])
def test_batch_has_the_ids_in_the_type_that_is_asked_for(dtype: type[np.unsignedinteger]) -> None:
    batch = small().encode_batch(TEXTS, dtype=dtype, frame_id=7, disallowed_special=())

    assert batch.ids.dtype == dtype
    assert [ids.tolist() for ids in batch] == [
        [7, *small().encode_ordinary(text), 7] for text in TEXTS
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"dtype": np.uint16}, "dtype is uint16; expected integers up", id="small"),
        pytest.param({"dtype": np.int64}, "dtype is int64; expected uint16 or", id="other"),
        pytest.param({"frame_id": WIDE_VOCAB_SIZE}, "id 70000 is not in the", id="frame"),
    ],
)
def test_types_and_ids_that_do_not_fit_are_refused(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        wide().encode_batch(["a"], **options)  # type: ignore[arg-type]  # wrong on purpose
