"""vocab.txt: tokens by line, as the tokenizers library reads them."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from tests.engine.tokenizer_oracles import standard_library_texts
from tests.engine.wordpiece_oracles import VOCAB_PATH, bert, needs_bert
from weldlm.tokenizer import AddedToken, Tokenizer, WordPieceSettings
from weldlm.tokenizer.vocab_txt import read_vocab_txt, write_vocab_txt


def read_by_tokenizers(path: Path) -> list[str]:
    vocab = tokenizers.models.WordPiece.read_file(str(path))
    return sorted(vocab, key=lambda token: vocab[token])


@needs_bert
def test_reads_the_vocabulary_of_bert() -> None:
    assert read_vocab_txt(VOCAB_PATH) == read_by_tokenizers(VOCAB_PATH)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"[UNK]\na\n##b\n", id="line-feeds"),
        pytest.param(b"[UNK]\r\na\r\n##b\r\n", id="carriage-returns"),
        pytest.param(b"[UNK]\na\n##b", id="no-last-line-feed"),
        pytest.param(b"[UNK]\n\na\n", id="an-empty-token"),
        pytest.param(b"[UNK]\na \t\n b\n", id="white-space-at-ends"),
        pytest.param("[UNK]\na\u3000\u00a0\nb\x1c\n\u2028c\n".encode(), id="unicode-white-space"),
        pytest.param("\ufeff[UNK]\n[UNK]\n\u4e2d\n".encode(), id="byte-order-mark"),
    ],
)
def test_lines_are_those_of_tokenizers(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes(data)

    assert read_vocab_txt(path) == read_by_tokenizers(path)


def test_written_tokens_are_read_again(tmp_path: Path) -> None:
    tokens = ["[PAD]", "[UNK]", "\u4e2d", "##\u00e9", " begins with a space", ""]

    write_vocab_txt(tmp_path / "vocab.txt", tokens)

    assert read_vocab_txt(tmp_path / "vocab.txt") == tokens
    assert read_by_tokenizers(tmp_path / "vocab.txt") == tokens


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"", r"vocab.txt, line 1: the file is empty", id="empty"),
        pytest.param(b"[UNK]\na\xff\n", r"vocab.txt, line 2: invalid UTF-8 at byte 1", id="utf-8"),
        pytest.param(
            b"[UNK]\na\nb\na\n", r"vocab.txt, line 4: the token 'a' is also in line 2", id="twice"
        ),
        pytest.param(
            b"[UNK]\na\na \n", r"line 3: the token 'a' is also in line 2", id="twice-but-a-space"
        ),
        pytest.param(b"a\nb\n", r"vocab.txt, line 1 to 2: no line is '\[UNK\]'", id="no-unk"),
    ],
)
def test_refuses_damaged_files(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    path.write_bytes(data)

    with pytest.raises(ValueError, match=message):
        read_vocab_txt(path)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        pytest.param(["[UNK]", "a\nb"], "token 1 is .* cannot hold a line break", id="line-break"),
        pytest.param(["[UNK]", "a "], "token 1 is 'a '", id="space-at-the-end"),
        pytest.param(["[UNK]", "a", "a"], "tokens 1 and 2 are both 'a'", id="twice"),
    ],
)
def test_refuses_to_write_what_reads_differently(
    tokens: list[str], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        write_vocab_txt(tmp_path / "vocab.txt", tokens)

    assert not (tmp_path / "vocab.txt").exists()


@needs_bert
@pytest.mark.parametrize("casing", ["uncased", "cased"])
def test_saved_vocabulary_encodes_alike_in_tokenizers(casing: str, tmp_path: Path) -> None:
    path = tmp_path / "vocab.txt"
    bert(casing).save(path, format="vocab.txt")
    oracle = tokenizers.BertWordPieceTokenizer(str(path), lowercase=casing == "uncased")
    texts = standard_library_texts(4)

    rows = bert(casing).encode_batch(texts, allowed_special="all")

    assert [row.tolist() for row in rows] == [row.ids for row in oracle.encode_batch(texts)]


def learned(**options: Any) -> Tokenizer:
    settings = WordPieceSettings(**options)
    return Tokenizer.train(["ab ab"], 9, algorithm=settings, allow_smaller=True)


@pytest.mark.parametrize(
    ("tokenizer", "message"),
    [
        (Tokenizer.train(["ab ab"], 258), "the model is byte-level BPE; a vocab.txt holds"),
        (learned(continuing_prefix="@@"), "and the prefix '@@'; readers of vocab.txt expect"),
        (
            Tokenizer(
                replace(
                    learned().parts,
                    tokens=[*learned().parts.tokens, b"<x>"],
                    added_tokens=(AddedToken("<x>", len(learned().parts.tokens)),),
                )
            ),
            "the added token '<x>' is behind the vocabulary",
        ),
    ],
    ids=["bpe", "prefix", "added"],
)
def test_what_a_vocab_txt_cannot_say_is_refused(
    tokenizer: Tokenizer, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        tokenizer.save(tmp_path / "vocab.txt", format="vocab.txt")


def test_unknown_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="format is 'yaml'; expected one of"):
        learned().save(tmp_path / "x", format="yaml")  # type: ignore[arg-type]  # the claim
