"""Files of tokenizers: the reader is chosen by what is in them, and encodes as the original."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import tiktoken
import tokenizers
from tokenizers import models, pre_tokenizers
from transformers import BertTokenizer

from tests.engine.tokenizer_files import (
    FORMATS,
    OPTIONS,
    TEXT,
    content,
    learned,
    merges_of_bpe,
    names_of_bpe,
    spiece,
    written,
)
from tests.engine.tokenizer_oracles import GPT2_PATTERN
from weldlm.tokenizer import Tokenizer, compiled_cache

ROLES_OF_BERT = {
    "unk_token": "[UNK]",
    "pad_token": "[PAD]",
    "cls_token": "[CLS]",
    "sep_token": "[SEP]",
    "mask_token": "[MASK]",
}
FREE_NAMES = [name for name in FORMATS if name not in ("vocab-json", "merges-txt")]
USUAL_NAMES = {
    "json-bpe": "tokenizer.json",
    "json-wordpiece": "tokenizer.json",
    "json-unigram": "tokenizer.json",
    "json-llama": "tokenizer.json",
    "ranks": "small.tiktoken",
    "vocab-txt": "vocab.txt",
    "spiece-unigram": "spiece.model",
    "spiece-bpe": "tokenizer.model",
    "gguf-bpe": "model.Q4_1.gguf",
    "gguf-spiece": "model.Q8_0.gguf",
    "llama2c": "tokenizer.bin",
}


def byte_level(pattern: pre_tokenizers.PreTokenizer) -> list[int]:
    """Ids of the small byte-level vocabulary in the tokenizers library."""
    merges: list[tuple[str, str]] = [tuple(line.split(" ")) for line in merges_of_bpe()]  # type: ignore[misc]  # two
    vocab = {name: i for i, name in enumerate(names_of_bpe())}
    oracle = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
    oracle.pre_tokenizer = pattern
    return list(oracle.encode(TEXT).ids)


def of_tiktoken() -> list[int]:
    tokens = learned("bpe").parts.tokens[1:]
    ranks = {token: rank for rank, token in enumerate(tokens)}
    encoding = tiktoken.Encoding(
        "small", pat_str=GPT2_PATTERN, mergeable_ranks=ranks, special_tokens={}
    )
    return encoding.encode_ordinary(TEXT)


def of_sentencepiece(model_type: int) -> list[int]:
    package = pytest.importorskip("sentencepiece")
    ids: list[int] = package.SentencePieceProcessor(model_proto=spiece(model_type)).encode(TEXT)
    return ids


def of_json(name: str) -> list[int]:
    return list(tokenizers.Tokenizer.from_str(content(name).decode()).encode(TEXT).ids)


def of_vocab_txt(folder: Path) -> list[int]:
    path = written("vocab-txt", folder, "of-oracle.txt")
    return list(tokenizers.BertWordPieceTokenizer(str(path)).encode(TEXT).ids)


GPT2 = pre_tokenizers.ByteLevel(add_prefix_space=False)
SMOLLM = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), GPT2])
EXPECTED: dict[str, Callable[[Path], list[int]]] = {
    "json-bpe": lambda _: of_json("json-bpe"),
    "json-wordpiece": lambda _: of_json("json-wordpiece"),
    "json-unigram": lambda _: of_json("json-unigram"),
    "json-llama": lambda _: of_json("json-llama"),
    "ranks": lambda _: of_tiktoken(),
    "vocab-json": lambda _: byte_level(GPT2),
    "merges-txt": lambda _: byte_level(GPT2),
    "vocab-txt": of_vocab_txt,
    "spiece-unigram": lambda _: of_sentencepiece(1),
    "spiece-bpe": lambda _: of_sentencepiece(2),
    # with the token that the file says to put at the end, or at the beginning
    "gguf-bpe": lambda _: [*byte_level(SMOLLM), 0],
    "gguf-spiece": lambda _: [1, *of_sentencepiece(2)],
    "llama2c": lambda _: [1, *of_sentencepiece(2)],
}


@pytest.mark.parametrize("name", FORMATS)
def test_file_encodes_as_the_original(name: str, tmp_path: Path) -> None:
    path = written(name, tmp_path, "tokenizer")

    ids = Tokenizer.from_file(path, **OPTIONS.get(name, {})).encode(TEXT)

    assert ids == EXPECTED[name](tmp_path)


@pytest.mark.parametrize("name", FREE_NAMES)
@pytest.mark.parametrize(
    "file_name", ["x", "tokenizer.bin", "x.model", "vocab.txt", "x.gguf", "x.tiktoken"]
)
def test_name_of_the_file_does_not_matter(name: str, file_name: str, tmp_path: Path) -> None:
    options = OPTIONS.get(name, {})
    expected = Tokenizer.from_file(written(name, tmp_path, "first"), **options)

    read = Tokenizer.from_file(written(name, tmp_path, file_name), **options)

    assert read.algorithm == expected.algorithm
    assert read.encode(TEXT) == expected.encode(TEXT)


@pytest.mark.parametrize("name", ["spiece-bpe", "gguf-bpe", "llama2c"])
def test_ending_json_does_not_make_json_of_a_file(name: str, tmp_path: Path) -> None:
    read = Tokenizer.from_file(written(name, tmp_path, "x.json"))

    assert read.encode(TEXT) == EXPECTED[name](tmp_path)


@pytest.mark.parametrize("name", FORMATS)
def test_folder_encodes_as_the_original(name: str, tmp_path: Path) -> None:
    written(name, tmp_path, USUAL_NAMES.get(name, ""))

    ids = Tokenizer.from_pretrained(tmp_path, **OPTIONS.get(name, {})).encode(TEXT)

    assert ids == EXPECTED[name](tmp_path)


def test_tokenizer_json_is_taken_before_others(tmp_path: Path) -> None:
    written("spiece-bpe", tmp_path, "tokenizer.model")
    written("vocab-txt", tmp_path, "vocab.txt")
    written("json-unigram", tmp_path, "tokenizer.json")

    ids = Tokenizer.from_pretrained(tmp_path).encode(TEXT)

    assert ids == of_json("json-unigram")


@pytest.mark.parametrize("lowercase", [True, False])
def test_config_says_whether_a_bare_vocabulary_is_cased(lowercase: bool, tmp_path: Path) -> None:
    path = written("vocab-txt", tmp_path, "vocab.txt")
    config = {"do_lower_case": lowercase, "unk_token": "[UNK]", "model_max_length": 8}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    oracle = tokenizers.BertWordPieceTokenizer(str(path), lowercase=lowercase)

    read = Tokenizer.from_pretrained(tmp_path)

    assert read.encode("The End") == oracle.encode("The End").ids
    assert read.config.roles == ROLES_OF_BERT
    assert read.config.max_length == 8


ROLES = {
    "vocab-txt": ROLES_OF_BERT,
    "spiece-unigram": {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
    "spiece-bpe": {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
    "llama2c": {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
}


@pytest.mark.parametrize("name", ROLES)
@pytest.mark.parametrize("read", [Tokenizer.from_file, Tokenizer.from_pretrained])
def test_special_tokens_of_usual_names_have_their_roles(
    name: str, read: Callable[[Path], Tokenizer], tmp_path: Path
) -> None:
    path = written(name, tmp_path, USUAL_NAMES[name])
    found = read(path if read == Tokenizer.from_file else tmp_path)

    assert found.config.roles == ROLES[name]
    assert all(found.role_id(role) is not None for role in found.config.roles)


def test_special_tokens_of_a_rank_file_have_their_roles(tmp_path: Path) -> None:
    path = written("ranks", tmp_path, "x")
    special_tokens = {"<pad>": 300, "[MASK]": 301}

    found = Tokenizer.from_file(path, special_tokens=special_tokens, **OPTIONS["ranks"])

    assert found.config.roles == {"pad_token": "<pad>", "mask_token": "[MASK]"}
    assert found(["the", "the end"], padding=True).input_ids[0][-1] == 300


def test_bare_vocabulary_pads_as_transformers_does(tmp_path: Path) -> None:
    written("vocab-txt", tmp_path, "vocab.txt")
    oracle = BertTokenizer.from_pretrained(tmp_path)

    batch = Tokenizer.from_pretrained(tmp_path)(["the", "the end is"], padding=True)

    assert dict(batch) == dict(oracle(["the", "the end is"], padding=True))


def test_configuration_says_more_of_roles_than_names(tmp_path: Path) -> None:
    written("vocab-txt", tmp_path, "vocab.txt")
    config = {"pad_token": "[MASK]", "mask_token": None}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))

    roles = Tokenizer.from_pretrained(tmp_path).config.roles

    others = {role: token for role, token in ROLES_OF_BERT.items() if role not in config}
    assert roles == others | {"pad_token": "[MASK]"}


def test_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent does not exist; expected the file of a"):
        Tokenizer.from_file(tmp_path / "absent")


def test_folder_in_place_of_a_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(IsADirectoryError, match=r"is a folder; .*Tokenizer.from_pretrained"):
        Tokenizer.from_file(tmp_path)


@pytest.mark.parametrize("path", [".", Path()], ids=["text", "path"])
def test_working_folder_in_place_of_a_file_is_named(path: str | Path) -> None:
    with pytest.raises(IsADirectoryError, match=r"^\. is a folder; expected the file of a token"):
        Tokenizer.from_file(path)
    with pytest.raises(IsADirectoryError, match=r"^\. is a folder; expected the name of a file to"):
        learned("bpe").save(path)


def test_empty_path_is_refused() -> None:
    for use in (Tokenizer.from_file, Tokenizer.from_pretrained, learned("bpe").save):
        with pytest.raises(ValueError, match=r"^path is empty; expected that of a file"):
            use("")


def test_pattern_for_a_file_that_has_one_is_refused(tmp_path: Path) -> None:
    path = written("json-bpe", tmp_path, "tokenizer.json")

    with pytest.raises(ValueError, match=r"json: pattern and special_tokens are for rank files"):
        Tokenizer.from_file(path, pattern="a+")


def test_cached_ranks_are_those_of_the_pattern_that_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(compiled_cache, "_LEAST_BYTES", 1)
    path = written("ranks", tmp_path, "x")

    first = Tokenizer.from_file(path, pattern=r"\p{L}+|\P{L}")
    second = Tokenizer.from_file(path, **OPTIONS["ranks"])

    assert first.parts.pretokenizer != second.parts.pretokenizer
    assert second.encode(TEXT) == of_tiktoken()


@pytest.mark.parametrize("line", [b"IQ== -1", b"IQ==  0 0", b"IQ= 0", b"I"])
@pytest.mark.parametrize("rest", [b"", b"Ig== 1\nIw== 2\n"], ids=["alone", "with-others"])
def test_damaged_first_line_of_ranks_is_named(line: bytes, rest: bytes, tmp_path: Path) -> None:
    path = tmp_path / "x.tiktoken"
    path.write_bytes(line + b"\n" + rest)

    with pytest.raises(ValueError, match=r"x\.tiktoken: line 1"):
        Tokenizer.from_file(path, **OPTIONS["ranks"])


@pytest.mark.parametrize("name", ["json-bpe", "vocab-json"])
def test_byte_order_mark_is_no_part_of_a_file(name: str, tmp_path: Path) -> None:
    path = written(name, tmp_path, "tokenizer.json", b"\xef\xbb\xbf" + content(name))

    assert Tokenizer.from_file(path).encode(TEXT) == EXPECTED[name](tmp_path)


def test_vocab_without_its_merges_is_named(tmp_path: Path) -> None:
    path = tmp_path / "vocab.json"
    path.write_bytes(content("vocab-json"))

    with pytest.raises(ValueError, match=r"vocab\.json: there is no merges\.txt beside"):
        Tokenizer.from_file(path)


def test_merges_without_their_vocab_are_named(tmp_path: Path) -> None:
    path = tmp_path / "merges.txt"
    path.write_bytes(content("merges-txt"))

    with pytest.raises(ValueError, match=r"merges\.txt: there is no vocab\.json beside it"):
        Tokenizer.from_file(path)


def test_other_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR")

    with pytest.raises(ValueError, match=f"{path}: the file is none of tokenizer.json, "):
        Tokenizer.from_file(path)
