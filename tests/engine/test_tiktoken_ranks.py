"""Rank files: reading, writing, and what is wrong with damaged ones."""

import base64
import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiktoken
import tiktoken.load
import tokenizers

from tests.engine.known_vocabularies import known_path
from tests.engine.pattern_texts import fuzz_texts
from tests.engine.tokenizer_oracles import (
    GPT2_PATTERN,
    gpt2,
    needs_gpt2,
    small,
    standard_library_texts,
)
from weldlm.tokenizer import Tokenizer
from weldlm.tokenizer.bert import bert_parts
from weldlm.tokenizer.bpe import BpeModel, Pattern, RankedBpeModel
from weldlm.tokenizer.parts import AddedToken, TokenizerParts
from weldlm.tokenizer.pattern_families import PATTERNS
from weldlm.tokenizer.regex_pattern import RegexPattern
from weldlm.tokenizer.tiktoken_ranks import KNOWN_RANKS, read_tiktoken, write_tiktoken

TOKENS = [bytes([byte]) for byte in range(256)] + [b"ab", b"", b"abc", b" a", b"", b"<|"]
END = "<|endoftext|>"
SPECIAL_TOKENS = {"<|end|>": 257, "<|more|>": 300}


def write_lines(path: Path, tokens: list[bytes]) -> Path:
    lines = [f"{base64.b64encode(token).decode()} {i}" for i, token in enumerate(tokens) if token]
    path.write_text("\n".join(lines) + "\n", encoding="ascii")
    return path


@pytest.fixture
def ranks(tmp_path: Path) -> Path:
    return write_lines(tmp_path / "some.tiktoken", TOKENS)


def test_file_with_gaps_encodes_as_in_tiktoken(ranks: Path) -> None:
    encoding = tiktoken.Encoding(
        "some",
        pat_str=GPT2_PATTERN,
        mergeable_ranks=tiktoken.load.load_tiktoken_bpe(str(ranks)),
        special_tokens=SPECIAL_TOKENS,
    )
    tokenizer = Tokenizer(read_tiktoken(ranks, pattern=GPT2_PATTERN, special_tokens=SPECIAL_TOKENS))
    texts = ["<|end|>abc ab<|more|>", *fuzz_texts(300)]

    encoded = [tokenizer.encode(text, allowed_special="all") for text in texts]

    assert encoded == [encoding.encode(text, allowed_special="all") for text in texts]


def test_ids_end_where_those_of_tiktoken_do(ranks: Path) -> None:
    parts = read_tiktoken(ranks, pattern=GPT2_PATTERN, special_tokens=SPECIAL_TOKENS)

    assert Tokenizer(parts).vocab_size == 301


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        (GPT2_PATTERN, Pattern("gpt2")),
        (r"\p{L}+|\P{L}", RegexPattern(r"\p{L}+|\P{L}", "tiktoken", "matches")),
    ],
    ids=["family", "any"],
)
def test_pattern_is_scanned_where_it_is_known(
    ranks: Path, pattern: str, expected: Pattern | RegexPattern
) -> None:
    assert read_tiktoken(ranks, pattern=pattern).pretokenizer == expected


def test_written_file_is_that_which_was_read(ranks: Path, tmp_path: Path) -> None:
    parts = read_tiktoken(ranks, pattern=GPT2_PATTERN, special_tokens=SPECIAL_TOKENS)

    write_tiktoken(tmp_path / "copy.tiktoken", parts)

    assert (tmp_path / "copy.tiktoken").read_bytes() == ranks.read_bytes()


@needs_gpt2
def test_ranks_of_gpt2_are_the_file_r50k_base(tmp_path: Path) -> None:
    tokens = gpt2().parts.tokens
    hidden = (len(tokens) - 1,)

    write_tiktoken(
        tmp_path / "any.tiktoken",
        TokenizerParts(tokens=tokens, model=RankedBpeModel(hidden_ids=hidden)),
    )

    data = (tmp_path / "any.tiktoken").read_bytes()
    assert hashlib.sha256(data).hexdigest() == KNOWN_RANKS["r50k_base"].sha256
    assert read_tiktoken(tmp_path / "any.tiktoken").pretokenizer == Pattern("gpt2")


@pytest.mark.parametrize("name", ["cl100k_base", "o200k_base", "p50k_base", "qwen"])
def test_known_content_needs_no_name(name: str, tmp_path: Path) -> None:
    renamed = tmp_path / "renamed"
    renamed.symlink_to(known_path(f"{name}.tiktoken").absolute())

    parts = read_tiktoken(renamed)

    special_tokens = {token.content: token.id for token in parts.added_tokens}
    assert parts.pretokenizer == Pattern(KNOWN_RANKS[name].family)
    assert special_tokens == KNOWN_RANKS[name].special_tokens


def ranks_of_size(path: Path, num_ranks: int) -> Path:
    return write_lines(path, [b"x%d" % rank for rank in range(num_ranks)])


def test_known_name_and_size_say_pattern_and_special_tokens(tmp_path: Path) -> None:
    parts = read_tiktoken(ranks_of_size(tmp_path / "r50k_base.tiktoken", 50256))

    assert parts.pretokenizer == Pattern("gpt2")
    assert [(token.content, token.id) for token in parts.added_tokens] == [(END, 50256)]


@pytest.mark.parametrize("num_ranks", [1, 400, 50255, 50257])
def test_known_name_alone_says_nothing(num_ranks: int, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"call Tokenizer\.from_file with pattern and special_tok"):
        read_tiktoken(ranks_of_size(tmp_path / "r50k_base.tiktoken", num_ranks))


def test_special_token_far_behind_the_ranks_is_refused(ranks: Path) -> None:
    num_tokens = sum(map(bool, TOKENS)) + 1
    with pytest.raises(ValueError, match=rf"id 50256, expected 0 to {2 * num_tokens + 1024}"):
        read_tiktoken(ranks, pattern=GPT2_PATTERN, special_tokens={END: 50256})


def test_last_special_token_that_is_taken_is_written_and_read(ranks: Path, tmp_path: Path) -> None:
    last = 2 * (sum(map(bool, TOKENS)) + 1) + 1024
    tokenizer = Tokenizer.from_file(ranks, pattern=GPT2_PATTERN, special_tokens={END: last})

    tokenizer.save(tmp_path / "o.json")

    again = Tokenizer.from_file(tmp_path / "o.json")
    assert again.special_tokens == {END: last}
    assert again.encode(f"abc{END}", allowed_special="all") == [258, last]


def test_what_would_not_be_read_is_not_written(tmp_path: Path) -> None:
    tokens = [*TOKENS[:256], *[b""] * 5000, END.encode()]
    special = (AddedToken(END, 5256),)
    parts = TokenizerParts(
        tokens=tokens, model=RankedBpeModel(hidden_ids=(5256,)), added_tokens=special
    )

    with pytest.raises(ValueError, match="has the id 5256 in a vocabulary of 257 tokens; tokenize"):
        Tokenizer(parts).save(tmp_path / "o.json")


def test_unknown_file_needs_a_pattern(ranks: Path) -> None:
    with pytest.raises(ValueError, match=r"some.tiktoken do not say how text is split, and the"):
        read_tiktoken(ranks)


def merges(*names: bytes) -> TokenizerParts:
    """Bytes, and a token for each two names that are joined by a plus."""
    tokens = TOKENS[:256] + [name.replace(b"+", b"") for name in names]
    rows = [
        [tokens.index(left), tokens.index(right), tokens.index(left + right)]
        for left, right in (name.split(b"+") for name in names)
    ]
    return TokenizerParts(tokens=tokens, model=BpeModel(np.array(rows, dtype=np.uint32)))


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (
            merges(b"b+c", b"a+b", b"ab+c"),
            r"b'abc' is made of b'ab' and b'c': its bytes become \(b'a', b'bc'\)",
        ),
        (
            replace(
                merges(b"a+b", b"b+c"),
                model=BpeModel(np.array([[98, 99, 257], [97, 98, 256]], dtype=np.uint32)),
            ),
            "not in the order of their tokens",
        ),
        (bert_parts(["[UNK]", "[CLS]", "[SEP]"]), "the model is WordPiece, expected byte-level"),
    ],
    ids=["other-halves", "other-order", "wordpiece"],
)
def test_what_ranks_cannot_say_is_refused(
    parts: TokenizerParts, message: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=message):
        write_tiktoken(tmp_path / "x.tiktoken", parts)


def test_ranks_of_learned_merges_encode_as_in_tiktoken(tmp_path: Path) -> None:
    path = tmp_path / "learned.tiktoken"
    trained = small()
    trained.save(path, format="tiktoken")
    encoding = tiktoken.Encoding(
        "learned",
        pat_str=GPT2_PATTERN,
        mergeable_ranks=tiktoken.load.load_tiktoken_bpe(str(path)),
        special_tokens=trained.special_tokens,
    )
    text = "".join(standard_library_texts(30)[28:]) + "".join(fuzz_texts(300))

    ids = trained.encode_ordinary(text)

    assert ids == encoding.encode_ordinary(text)


@needs_gpt2
def test_ranks_of_merges_of_gpt2_are_the_file_r50k_base(tmp_path: Path) -> None:
    path = tmp_path / "gpt2.tiktoken"

    gpt2().save(path, format="tiktoken")

    assert hashlib.sha256(path.read_bytes()).hexdigest() == KNOWN_RANKS["r50k_base"].sha256


def saved_in_tokenizers(parts: TokenizerParts, folder: Path) -> tokenizers.Tokenizer:
    Tokenizer(parts).save(folder / "tokenizer.json")
    return tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))


def test_saved_ranks_encode_alike_in_tokenizers(tmp_path: Path) -> None:
    tokens = small().parts.tokens[1:]
    path = write_lines(tmp_path / "some.tiktoken", tokens)
    parts = read_tiktoken(path, pattern=PATTERNS["cl100k"], special_tokens={"<|end|>": 1234})
    text = "".join(standard_library_texts(30)[28:]) + "<|end|>\n \n\t" + "".join(fuzz_texts(300))

    ids = saved_in_tokenizers(parts, tmp_path).encode(text + "\n ").ids

    assert ids == Tokenizer(parts).encode(text + "\n ", allowed_special="all")


@pytest.mark.parametrize("name", ["cl100k_base", "o200k_base", "p50k_base", "qwen"])
def test_saved_known_ranks_encode_alike_in_tokenizers(name: str, tmp_path: Path) -> None:
    parts = read_tiktoken(known_path(f"{name}.tiktoken"))
    texts = [*fuzz_texts(1000), *standard_library_texts(6)]

    rows = saved_in_tokenizers(parts, tmp_path).encode_batch(texts)

    encode = Tokenizer(parts).encode
    assert [row.ids for row in rows] == [encode(text, allowed_special="all") for text in texts]


def test_special_token_with_the_name_of_another_is_refused(ranks: Path, tmp_path: Path) -> None:
    parts = read_tiktoken(ranks, pattern=GPT2_PATTERN, special_tokens={"abc": 257})

    with pytest.raises(ValueError, match="a special token and another one are spelled 'abc'"):
        Tokenizer(parts).save(tmp_path / "tokenizer.json")


@pytest.mark.parametrize(
    ("data", "message"),
    [
        pytest.param(b"YQ== 0\nYg==\n", "line 2 is b'Yg==', expected a token", id="no-rank"),
        pytest.param(b"YQ== 0 1\n", "line 1 is b'YQ== 0 1'", id="three-cells"),
        pytest.param(b"YQ= 0\n", "line 1: b'YQ=' is not base64", id="padding"),
        pytest.param(b"\xff\xfe== 0\n", "line 1: .* is not base64", id="no-ascii"),
        pytest.param(b"Y!Q== 0\n", "line 1: b'Y!Q==' is not base64", id="alphabet"),
        pytest.param(b"= 0\n", "line 1: b'=' is not base64", id="sign"),
        pytest.param(b"YQ== -1\n", "line 1: the rank is b'-1', expected 0 to", id="negative"),
        pytest.param(b"YQ== 0x1\n", "line 1: the rank is b'0x1'", id="hexadecimal"),
        pytest.param(b"YQ== 1e9\n", "line 1: the rank is b'1e9'", id="exponent"),
        pytest.param(b"YQ== 999999999\n", "line 1: the rank is", id="huge"),
        pytest.param(b"YQ== " + b"9" * 10_000, "line 1: the rank is b'99", id="endless"),
        pytest.param(b"YQ== 0\n\nYQ== 1\n", "line 3: the token b'a' has a rank", id="twice"),
        pytest.param(b"YQ== 0\nYg== 0\n", "the rank 0 is given to b'a' and b'b'", id="one-rank"),
    ],
)
def test_damaged_lines_are_named(data: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "damaged.tiktoken"
    path.write_bytes(data)

    with pytest.raises(ValueError, match=message):
        read_tiktoken(path, pattern=GPT2_PATTERN)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pattern": 5}, "pattern is a int, expected a regular expression as str"),
        ({"special_tokens": ["<x>"]}, "special_tokens is a list, expected a dict of tokens and"),
        ({"special_tokens": {"<x>": "1"}}, "special_tokens holds '<x>': '1', expected a str and"),
    ],
)
def test_rules_of_other_types_are_refused(
    ranks: Path, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(TypeError, match=rf"^{message}[^\n]*$"):
        Tokenizer.from_file(ranks, **options)


@pytest.mark.parametrize(
    ("special_tokens", "message"),
    [
        ({"<|end|>": 97}, "the special token '<|end|>' has the id 97, which is that of b'a'"),
        ({"<|end|>": -1}, "the special token '<|end|>' has the id -1, expected 0 to"),
        ({"<|end|>": 10**12}, "has the id 1000000000000, expected 0 to"),
        ({"<|a|>": 300, "<|b|>": 300}, "'<|b|>' has the id 300, which is that of b'<|a|>'"),
    ],
)
def test_special_tokens_have_ids_of_their_own(
    ranks: Path, special_tokens: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError, match=message.replace("|", r"\|")):
        read_tiktoken(ranks, pattern=GPT2_PATTERN, special_tokens=special_tokens)


def test_ranks_of_endless_tokens_are_refused(tmp_path: Path) -> None:
    path = write_lines(tmp_path / "long.tiktoken", [*TOKENS, b"a" * 5000])

    with pytest.raises(ValueError, match="of id 262 has 5000 bytes, expected at most 4096"):
        Tokenizer(read_tiktoken(path, pattern=GPT2_PATTERN))
