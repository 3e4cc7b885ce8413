"""GPT-2 and a small trained vocabulary, in this package and in the libraries it is compared to."""

import functools
import os
import sysconfig
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import tiktoken
import tokenizers

from weldlm.tokenizer import Tokenizer, TokenizerParts
from weldlm.tokenizer.bpe import BpeModel

GPT2_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
DATA = Path(os.environ.get("WELDLM_TEST_DATA", "data"))
GPT2_PATH = DATA / "tokenizers" / "gpt2-tokenizer.json"

needs_gpt2 = pytest.mark.skipif(
    not GPT2_PATH.is_file(), reason=f"{GPT2_PATH} is absent; WELDLM_TEST_DATA names the folder"
)


@functools.cache
def gpt2() -> Tokenizer:
    return Tokenizer.from_file(GPT2_PATH)


@functools.cache
def gpt2_of_tokenizers() -> tokenizers.Tokenizer:
    return tokenizers.Tokenizer.from_file(str(GPT2_PATH))


@functools.cache
def gpt2_of_tiktoken() -> tiktoken.Encoding:
    tokens = gpt2().parts.tokens
    return tiktoken.Encoding(
        "gpt2-from-file",
        pat_str=GPT2_PATTERN,
        mergeable_ranks={token: rank for rank, token in enumerate(tokens[:-1])},
        special_tokens={"<|endoftext|>": len(tokens) - 1},
    )


@functools.cache
def standard_library_texts(num_modules: int) -> list[str]:
    """The source of the first modules of the standard library by name."""
    folder = Path(sysconfig.get_path("stdlib"))
    paths = sorted(folder.glob("*.py"))[:num_modules]
    return [path.read_text(encoding="utf-8", errors="replace") for path in paths]


@functools.cache
def small() -> Tokenizer:
    return Tokenizer.train(standard_library_texts(20), 1000)


@functools.cache
def small_of_tokenizers() -> tokenizers.Tokenizer:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        small().save(path)
        return tokenizers.Tokenizer.from_file(str(path))


def bpe_of_tokenizers() -> tokenizers.Tokenizer:
    """Byte-level BPE without a vocabulary, to be trained."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    return tokenizer


def merges_of(parts: TokenizerParts) -> list[list[int]]:
    """Rows of left, right and merged id."""
    assert isinstance(parts.model, BpeModel)
    return [list(row) for row in parts.model.merges.tolist()]
