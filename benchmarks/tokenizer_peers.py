"""The families of tokenizers that are present, and the libraries that read the same vocabulary.

gigatoken, fastokens and quicktok (the package quicktok-v1) take part where they are installed.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import tokenizers

from tests.engine.known_vocabularies import FOLDER, RANKED, encoding_of_tiktoken
from tests.engine.sentencepiece_oracles import T5_PATH
from tests.engine.tokenizer_oracles import GPT2_PATH
from tests.engine.wordpiece_oracles import VOCAB_PATH

__all__ = ["Family", "Peer", "families"]

Encode = Callable[[str], list[int]]


@dataclass(frozen=True, slots=True)
class Peer:
    """Another library with the vocabulary of a family."""

    name: str
    load: Callable[[], Encode]  # reads the file and gives what encodes without special tokens


@dataclass(frozen=True, slots=True)
class Family:
    """A vocabulary, and who else reads its file; the first peer is the oracle."""

    name: str
    path: Path
    peers: tuple[Peer, ...]


# how fastokens and quicktok call what a rank file is of
_ENCODINGS = {"cl100k_base": "cl100k_base", "o200k_base": "o200k_base"}
_BUNDLED = _ENCODINGS | {"llama3": "llama3", "qwen3": "qwen3"}
_SCHEMES = {"qwen": "qwen2"}  # of rank files whose name gigatoken does not know


def families() -> Iterator[Family]:
    """Those whose file is there."""
    readers = {
        FOLDER / "cl100k_base.tiktoken": _of_ranks,
        FOLDER / "o200k_base.tiktoken": _of_ranks,
        FOLDER / "qwen.tiktoken": _of_ranks,
        FOLDER / "llama3.json": _of_json,
        GPT2_PATH: _of_json,
        VOCAB_PATH: _of_vocab_txt,
        T5_PATH: _of_model,
        FOLDER / "mistral_v1.model": _of_model,
    }
    for path, peers in readers.items():
        if path.is_file():
            found = tuple(peer for peer in peers(path) if _is_installed(peer.name))
            yield Family(path.stem, path, found)


def _is_installed(package: str) -> bool:
    return find_spec(package) is not None


def _of_ranks(path: Path) -> list[Peer]:
    assert path.stem in RANKED
    peers = [
        Peer("tiktoken", lambda: encoding_of_tiktoken(path.stem, path).encode_ordinary),
        Peer("gigatoken", lambda: _gigatoken("from_tiktoken", path, _SCHEMES.get(path.stem))),
    ]
    if path.stem in _ENCODINGS:
        peers.append(Peer("fastokens", lambda: _fastokens(path, _ENCODINGS[path.stem])))
        peers.append(Peer("quicktok", lambda: _quicktok(_BUNDLED[path.stem])))
    return peers


def _of_json(path: Path) -> list[Peer]:
    peers = [
        Peer("tokenizers", lambda: _tokenizers(tokenizers.Tokenizer.from_file(str(path)))),
        Peer("gigatoken", lambda: _gigatoken("from_json", path.read_bytes())),
        Peer("fastokens", lambda: _fastokens(path, None)),
    ]
    if path.stem in _BUNDLED:
        peers.append(Peer("quicktok", lambda: _quicktok(_BUNDLED[path.stem])))
    return peers


def _of_vocab_txt(path: Path) -> list[Peer]:
    def load() -> Encode:
        return _tokenizers(tokenizers.BertWordPieceTokenizer(str(path), lowercase=True))

    return [Peer("tokenizers", load)]


def _of_model(path: Path) -> list[Peer]:
    peers = [Peer("sentencepiece", lambda: _sentencepiece(path))]
    if path != T5_PATH:  # gigatoken reads no Unigram
        peers.append(Peer("gigatoken", lambda: _gigatoken("from_sentencepiece", path)))
    return peers


def _tokenizers(theirs: Any) -> Encode:
    return lambda text: list(theirs.encode(text, add_special_tokens=False).ids)


def _sentencepiece(path: Path) -> Encode:
    package: Any = import_module("sentencepiece")
    encode: Encode = package.SentencePieceProcessor(model_file=str(path)).encode
    return encode


def _gigatoken(reader: str, source: object, scheme: str | None = None) -> Encode:
    package: Any = import_module("gigatoken")
    options = {} if scheme is None else {"pretokenizer": scheme}
    theirs = getattr(package.Tokenizer, reader)(source, **options)
    return lambda text: list(theirs.encode(text).tolist())


def _fastokens(path: Path, encoding: str | None) -> Encode:
    package: Any = import_module("fastokens._native").Tokenizer
    theirs = (
        package.from_file(str(path))
        if encoding is None
        else package.from_tiktoken(str(path), encoding=encoding)
    )
    return lambda text: list(theirs.encode_ordinary(text).ids)


def _quicktok(encoding: str) -> Encode:
    package: Any = import_module("quicktok")
    encode: Encode = package.Tokenizer(encoding, "").encode_ordinary
    return encode
