"""Rank files: reading, writing, and what is wrong with damaged ones."""

import base64
import hashlib
from pathlib import Path

import pytest
import tiktoken
import tiktoken.load

from tests.engine.known_vocabularies import known_path
from tests.engine.pattern_texts import fuzz_texts
from tests.engine.tokenizer_oracles import GPT2_PATTERN, gpt2, needs_gpt2
from weldlm.tokenizer import Tokenizer
from weldlm.tokenizer.bpe import Pattern, RankedBpeModel
from weldlm.tokenizer.parts import TokenizerParts
from weldlm.tokenizer.regex_pattern import RegexPattern
from weldlm.tokenizer.tiktoken_ranks import KNOWN_RANKS, read_tiktoken, write_tiktoken

TOKENS = [bytes([byte]) for byte in range(256)] + [b"ab", b"", b"abc", b" a", b"", b"<|"]
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


def test_known_name_says_pattern_and_special_tokens(tmp_path: Path) -> None:
    parts = read_tiktoken(write_lines(tmp_path / "r50k_base.tiktoken", [b"a"]))

    assert parts.pretokenizer == Pattern("gpt2")


def test_unknown_file_needs_a_pattern(ranks: Path) -> None:
    with pytest.raises(ValueError, match=r"some.tiktoken do not say how text is split, and the"):
        read_tiktoken(ranks)


def test_merges_are_no_ranks(tmp_path: Path) -> None:
    trained = Tokenizer.train(["ab ab ab"], 258)

    with pytest.raises(ValueError, match="the model is a BpeModel, expected a RankedBpeModel"):
        write_tiktoken(tmp_path / "trained.tiktoken", trained.parts)


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
