"""Vocabularies of well-known models, here and in the libraries that they are compared to.

`python -m benchmarks.fetch_vocabularies FOLDER` gets the files; WELDLM_VOCABULARIES names the
folder.
"""

import functools
import json
import os
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import tiktoken
import tiktoken.load
import tokenizers

from tests.engine.tokenizer_oracles import GPT2_PATTERN
from weldlm.tokenizer import Tokenizer
from weldlm.tokenizer.pattern_families import PATTERNS
from weldlm.tokenizer.tiktoken_ranks import KNOWN_RANKS, read_tiktoken

Encode = Callable[[str], list[int]]

FOLDER = Path(os.environ.get("WELDLM_VOCABULARIES", "vocabularies"))
RANKED = ("cl100k_base", "o200k_base", "p50k_base", "qwen")
JSON = ("llama3", "qwen3", "gpt4o", "deepseek")

# as tiktoken 0.14 spells them
PATTERNS_OF_TIKTOKEN = {
    "gpt2": GPT2_PATTERN,
    "qwen2": PATTERNS["qwen2"],
    "o200k": PATTERNS["o200k"],
    "cl100k": (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"
        r"|\s++$|\s*[\r\n]|\s+(?!\S)|\s"
    ),
}


def present_files() -> list[Path]:
    """The files of the folder in the order of their names, none where there is no folder."""
    return sorted(FOLDER.iterdir()) if FOLDER.is_dir() else []


def known_path(file_name: str) -> Path:
    """The path of a file; the test is skipped where it is absent."""
    path = FOLDER / file_name
    if not path.is_file():
        pytest.skip(
            f"{path} is absent; run python -m benchmarks.fetch_vocabularies FOLDER and let "
            "WELDLM_VOCABULARIES name the folder"
        )
    return path


@functools.cache
def both(name: str) -> tuple[Encode, Encode]:
    """The `encode` of this package, special tokens being plain text, and that of the oracle."""
    return _ranked(name) if name in RANKED else _json(name)


def encoding_of_tiktoken(name: str, path: Path) -> tiktoken.Encoding:
    known = KNOWN_RANKS[name]
    return tiktoken.Encoding(
        name,
        pat_str=PATTERNS_OF_TIKTOKEN[known.family],
        mergeable_ranks=tiktoken.load.load_tiktoken_bpe(str(path)),
        special_tokens=dict(known.special_tokens),
    )


def _ranked(name: str) -> tuple[Encode, Encode]:
    path = known_path(f"{name}.tiktoken")
    encoding = encoding_of_tiktoken(name, path)
    return Tokenizer(read_tiktoken(path)).encode_ordinary, encoding.encode_ordinary


def _json(name: str) -> tuple[Encode, Encode]:
    # normalizers have tests of their own
    document = json.loads(known_path(f"{name}.json").read_bytes()) | {"normalizer": None}
    with TemporaryDirectory() as folder:
        path = Path(folder) / "tokenizer.json"
        path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")
        tokenizer = Tokenizer.from_file(path)
        oracle = tokenizers.Tokenizer.from_file(str(path))
    oracle.encode_special_tokens = True
    return tokenizer.encode_ordinary, lambda text: oracle.encode(text, add_special_tokens=False).ids
