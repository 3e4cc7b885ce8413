"""vocab.json and merges.txt against tokenizers."""

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer as OracleTokenizer
from tokenizers import models, pre_tokenizers

from tests.engine.known_vocabularies import known_path
from tests.engine.pattern_texts import fuzz_texts
from tests.engine.tokenizer_oracles import gpt2, needs_gpt2, standard_library_texts
from weldlm.tokenizer import Tokenizer
from weldlm.tokenizer.vocab_merges import read_vocab_merges


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """The two files of a small vocabulary."""
    trained = Tokenizer.train(standard_library_texts(4), 600)
    trained.save(tmp_path / "tokenizer.json")
    model = json.loads((tmp_path / "tokenizer.json").read_text(encoding="utf-8"))["model"]
    vocab, merges = tmp_path / "vocab.json", tmp_path / "merges.txt"
    vocab.write_text(json.dumps(model["vocab"]), encoding="utf-8")
    lines = ["#version: 0.2", *(" ".join(pair) for pair in model["merges"])]
    merges.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return vocab, merges


def test_files_encode_as_in_tokenizers(files: tuple[Path, Path]) -> None:
    oracle = OracleTokenizer(models.BPE.from_file(*map(str, files)))
    oracle.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer = Tokenizer(read_vocab_merges(*files))
    texts = [*standard_library_texts(3), *fuzz_texts(300)]

    encoded = [tokenizer.encode_ordinary(text) for text in texts]

    assert encoded == [oracle.encode(text).ids for text in texts]


def test_end_of_text_is_special_by_default(files: tuple[Path, Path]) -> None:
    assert Tokenizer(read_vocab_merges(*files)).special_tokens == {"<|endoftext|>": 0}


def test_special_tokens_are_those_asked_for(files: tuple[Path, Path]) -> None:
    parts = read_vocab_merges(*files, special_tokens=["self"])

    assert list(Tokenizer(parts).special_tokens) == ["self"]


@needs_gpt2
def test_files_of_gpt2_are_its_tokenizer_json() -> None:
    parts = read_vocab_merges(known_path("gpt2_vocab.json"), known_path("gpt2_merges.txt"))
    tokenizer = Tokenizer(parts)
    texts = fuzz_texts(1000)

    encoded = [tokenizer.encode_ordinary(text) for text in texts]

    assert parts.tokens == gpt2().parts.tokens
    assert encoded == [gpt2().encode_ordinary(text) for text in texts]


@pytest.mark.parametrize(
    ("vocab", "merges", "message"),
    [
        (b'{"a": 0', b"", "invalid JSON at line 1, column 8"),
        (b'{"a": 0, "a": 1}', b"", "the key 'a' is given twice"),
        (b'{"a": 0}', b"a a\n\xff", "merges.txt: invalid UTF-8 at byte 4"),
        (b'{"a": 0}', b"#version: 0.2\na\n", "merges.txt, line 2 is 'a', expected two tokens"),
        (b'{"a": 0}', b"a a a\n", "merges.txt, line 1 is 'a a a'"),
        (b'{"a": 0}', b"a  a\n", "merges.txt, line 1 is 'a  a'"),
        (b'{"a": 0}', b"a a\n", "merge 0 is .* vocab has no token 'aa'"),
        (b'{"a": 0, "b": 0}', b"", "vocab gives the id 0 to 'a' and 'b'"),
        (b'{"a": -1}', b"", "vocab gives the token 'a' the id -1, expected 0 to"),
        (b'{"a": 99999999}', b"", "vocab gives the token 'a' the id 99999999"),
        (b'{"a": 1.5}', b"", "vocab gives the token 'a' the id 1.5"),
        (b"[]", b"", r"vocab is \[\], expected an object"),
    ],
)
def test_damage_is_named(vocab: bytes, merges: bytes, message: str, tmp_path: Path) -> None:
    (tmp_path / "vocab.json").write_bytes(vocab)
    (tmp_path / "merges.txt").write_bytes(merges)

    with pytest.raises(ValueError, match=message):
        read_vocab_merges(tmp_path / "vocab.json", tmp_path / "merges.txt")


def test_special_token_without_an_id_is_refused(files: tuple[Path, Path]) -> None:
    with pytest.raises(ValueError, match=r"vocab.json has no id for the special token '<pad>'"):
        read_vocab_merges(*files, special_tokens=["<pad>"])
