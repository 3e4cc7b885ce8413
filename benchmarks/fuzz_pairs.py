"""Every vocabulary that is present, in this package and in the library that made its file.

The oracle follows the file: .tiktoken is tiktoken's, tokenizer.json, vocab.txt and vocab.json with
merges.txt are those of tokenizers, .model is sentencepiece's. Small SentencePiece models of other
options are trained here.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import tokenizers

from tests.engine.known_vocabularies import RANKED, encoding_of_tiktoken, present_files
from tests.engine.sentencepiece_oracles import NAMES as SPIECE_NAMES
from tests.engine.sentencepiece_oracles import Pair as SpiecePair
from tests.engine.sentencepiece_oracles import pair as spiece_pair
from tests.engine.tokenizer_oracles import GPT2_PATH
from tests.engine.wordpiece_oracles import CASINGS, VOCAB_PATH, bert, bert_of_tokenizers
from weldlm.tokenizer import Tokenizer
from weldlm.tokenizer.spiece_model import read_spiece_model
from weldlm.tokenizer.vocab_merges import read_vocab_merges

__all__ = ["FuzzPair", "all_pairs"]

View = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class FuzzPair:
    """One vocabulary on both sides: what is asked about a text, by its name."""

    name: str
    oracle: str
    special_tokens: Sequence[str]
    ours: dict[str, View]
    theirs: dict[str, View]


def all_pairs() -> Iterator[tuple[str, Callable[[], FuzzPair]]]:
    """Names, and what loads the vocabulary."""
    if GPT2_PATH.is_file():
        yield "gpt2", partial(_json, "gpt2", GPT2_PATH)
    if VOCAB_PATH.is_file():
        for casing in CASINGS:
            yield f"bert-{casing}", partial(_bert, casing)
    for path in present_files():
        read = _reader(path)
        if read is not None:
            yield path.stem, partial(read, path.stem, path)
    for name in SPIECE_NAMES:
        yield f"spiece-{name}", partial(_trained, name)


def _reader(path: Path) -> Callable[[str, Path], FuzzPair] | None:
    if path.suffix == ".tiktoken" and path.stem in RANKED:
        return _ranked
    if path.suffix == ".model":
        return _model
    if path.name.endswith("_vocab.json"):
        return _vocab_merges
    return _json if path.suffix == ".json" else None


def _views(ours: Tokenizer, *, decode: Callable[[list[int]], str]) -> dict[str, View]:
    def text_of_ids(text: str) -> str:
        return decode(ours.encode_ordinary(text))

    def places(text: str) -> list[list[int]]:
        located = ours.encode_with_offsets(
            text, add_special_tokens=False, allowed_special="all", disallowed_special=()
        )
        return [[i, *place] for i, place in zip(located.ids, located.offsets.tolist(), strict=True)]

    return {
        "ids": ours.encode_ordinary,
        "special ids": lambda text: ours.encode(
            text, add_special_tokens=False, allowed_special="all"
        ),
        "places": places,
        "decoded": text_of_ids,
    }


def _ranked(name: str, path: Path) -> FuzzPair:
    ours = Tokenizer.from_file(path)
    encoding = encoding_of_tiktoken(name, path)

    @functools.lru_cache(maxsize=1)
    def encoded(text: str) -> list[int]:
        return encoding.encode_ordinary(text)

    own = _views(ours, decode=ours.decode)
    own["starts"] = lambda text: (
        ours.encode_with_offsets(text, disallowed_special=()).offsets[:, 0].tolist()
    )
    del own["places"]
    theirs: dict[str, View] = {
        "ids": encoded,
        "special ids": lambda text: encoding.encode(text, allowed_special="all"),
        "starts": lambda text: encoding.decode_with_offsets(encoded(text))[1],
        "decoded": lambda text: encoding.decode(encoded(text)),
    }
    return FuzzPair(name, "tiktoken", tuple(ours.special_tokens), own, theirs)


def _vocab_merges(name: str, path: Path) -> FuzzPair:
    merges = path.with_name(path.name.replace("_vocab.json", "_merges.txt"))
    ours = Tokenizer(read_vocab_merges(path, merges))
    theirs = tokenizers.ByteLevelBPETokenizer(str(path), str(merges))
    theirs.add_special_tokens(list(ours.special_tokens))
    return _of_tokenizers(name, ours, theirs._tokenizer)


def _json(name: str, path: Path) -> FuzzPair:
    return _of_tokenizers(
        name, Tokenizer.from_file(path), tokenizers.Tokenizer.from_file(str(path))
    )


def _bert(casing: str) -> FuzzPair:
    return _of_tokenizers(f"bert-{casing}", bert(casing), bert_of_tokenizers(casing)._tokenizer)


def _of_tokenizers(name: str, ours: Tokenizer, oracle: tokenizers.Tokenizer) -> FuzzPair:
    @functools.lru_cache(maxsize=2)
    def encoded(text: str, takes_special: bool) -> tokenizers.Encoding:
        oracle.encode_special_tokens = not takes_special
        return oracle.encode(text, add_special_tokens=False)

    def places(text: str) -> list[list[int]]:
        encoding = encoded(text, True)
        rows = zip(encoding.ids, encoding.offsets, strict=True)
        return [[token_id, *place] for token_id, place in rows]

    theirs: dict[str, View] = {
        "ids": lambda text: encoded(text, False).ids,
        "special ids": lambda text: encoded(text, True).ids,
        "places": places,
        "decoded": lambda text: oracle.decode(encoded(text, False).ids, skip_special_tokens=False),
    }
    own = _views(ours, decode=ours.decode)
    return FuzzPair(name, "tokenizers", tuple(ours.special_tokens), own, theirs)


def _model(name: str, path: Path) -> FuzzPair:
    import sentencepiece

    theirs = sentencepiece.SentencePieceProcessor(model_file=str(path))
    pair = SpiecePair(Tokenizer(read_spiece_model(path)), theirs, path.read_bytes())
    return _spiece(name, pair)


def _trained(name: str) -> FuzzPair:
    return _spiece(f"spiece-{name}", spiece_pair(name))


def _spiece(name: str, pair: SpiecePair) -> FuzzPair:
    theirs: Any = pair.theirs
    encoded = functools.lru_cache(maxsize=1)(theirs.encode)
    views: dict[str, View] = {
        "ids": encoded,
        "decoded": lambda text: theirs.decode(encoded(text)),
    }
    own = _views(pair.ours, decode=pair.ours.decode)
    special_tokens = tuple(pair.ours.special_tokens)
    return FuzzPair(
        name, "sentencepiece", special_tokens, {view: own[view] for view in views}, views
    )
