"""SentencePiece models: T5's and small ones that the package trains, here and in the package."""

import functools
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest

from tests.engine.tokenizer_oracles import DATA
from weldlm.tokenizer import Tokenizer
from weldlm.tokenizer.spiece_model import read_spiece_model

sentencepiece: Any = pytest.importorskip(
    "sentencepiece", reason="the sentencepiece package is the oracle of .model files"
)

T5_PATH = DATA / "tokenizers" / "t5-spiece.model"
CORPUS = DATA / "text" / "tinyshakespeare.txt"

needs_data = pytest.mark.skipif(
    not (T5_PATH.is_file() and CORPUS.is_file()),
    reason=f"{T5_PATH} or {CORPUS} is absent; WELDLM_TEST_DATA names the folder",
)

_KEPT = ["<sep>", "foo bar", "  ", "aa", "\u2581xyz"]
_OPTIONS: dict[str, dict[str, Any]] = {
    "unigram": {"model_type": "unigram", "byte_fallback": True},
    "bpe": {"model_type": "bpe", "byte_fallback": True},
    "bpe-unknown": {"model_type": "bpe"},
    "unigram-kept": {
        "model_type": "unigram",
        "user_defined_symbols": _KEPT,
        "control_symbols": ["<c1>"],
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
    },
    "bpe-kept": {
        "model_type": "bpe",
        "user_defined_symbols": _KEPT,
        "normalization_rule_name": "identity",
        "remove_extra_whitespaces": False,
        "byte_fallback": True,
    },
    "unigram-suffix": {"model_type": "unigram", "treat_whitespace_as_suffix": True},
    "bpe-phrases": {
        "model_type": "bpe",
        "split_by_whitespace": False,
        "normalization_rule_name": "nfkc_cf",
        "add_dummy_prefix": False,
    },
    "unigram-runs": {
        "model_type": "unigram",
        "split_by_whitespace": False,
        "allow_whitespace_only_pieces": True,
        "remove_extra_whitespaces": False,
    },
}
NAMES = ["t5", *_OPTIONS]


@dataclass(frozen=True)
class Pair:
    """One model in both packages."""

    ours: Tokenizer
    theirs: Any
    data: bytes


@functools.cache
def pair(name: str) -> Pair:
    if name == "t5":
        return _load(T5_PATH)
    with TemporaryDirectory() as folder:
        corpus = Path(folder) / "corpus.txt"
        corpus.write_text(CORPUS.read_text(encoding="utf-8")[:150_000], encoding="utf-8")
        sentencepiece.SentencePieceTrainer.train(
            input=str(corpus),
            model_prefix=f"{folder}/model",
            vocab_size=700,
            num_threads=1,
            minloglevel=2,
            **_OPTIONS[name],
        )
        return _load(Path(folder) / "model.model")


def _load(path: Path) -> Pair:
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return Pair(Tokenizer(read_spiece_model(path)), theirs, path.read_bytes())
