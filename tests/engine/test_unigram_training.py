"""Unigram training against the trainer of the sentencepiece package."""

import functools
import io
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.engine.sentencepiece_oracles import needs_data, sentencepiece
from tests.engine.tokenizer_oracles import DATA
from weldlm.tokenizer import Tokenizer, TokenizerParts
from weldlm.tokenizer.parts import Template
from weldlm.tokenizer.sentencepiece import SpieceNormalizer, UnigramModel
from weldlm.tokenizer.spiece_model import parts_of_spiece_model
from weldlm.tokenizer.unigram_training import (
    SENTENCEPIECE_LAYOUT,
    T5_LAYOUT,
    SpecialLayout,
    UnigramSettings,
    train_unigram,
)

# Where sentencepiece sums in float, near-equal pieces at the border of the vocabulary change
# places: 98 % are the same.
LEAST_OVERLAP = 0.97
# Version 0.2.3 ends without the steps of EM that fit the scores to the last pieces. So the text
# is more likely here, by 0.1 to 2 %; it must not be less likely by more than this.
LIKELIHOOD_TOLERANCE = 0.005

SENTENCES = [
    "the theme of the thesis is there",
    "there, there! the end of the theme",
    "thesis and synthesis, \u4e2d\u6587 \xe9t\xe9",
] * 3


@dataclass(frozen=True)
class Trained:
    """One corpus, learned by both packages."""

    ours: TokenizerParts
    theirs: TokenizerParts
    held_out: list[str]


@functools.cache
def trained(corpus: str, vocab_size: int) -> Trained:
    text = (DATA / "text" / corpus).read_text(encoding="utf-8-sig")[:1_000_000]
    lines = [line for line in text.split("\n") if line]
    place = len(lines) * 9 // 10
    data = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines[:place]),
        model_writer=data,
        vocab_size=vocab_size,
        model_type="unigram",
        num_threads=1,
        minloglevel=2,
    )
    theirs = parts_of_spiece_model(data.getvalue())
    (normalizer,) = theirs.normalizers
    assert isinstance(normalizer, SpieceNormalizer)
    ours = train_unigram(lines[:place], vocab_size, UnigramSettings(normalizer=normalizer))
    return Trained(ours, theirs, lines[place:])


def log_likelihood(parts: TokenizerParts, lines: list[str]) -> float:
    """Of the best segmentation, for each character."""
    model = parts.model
    assert isinstance(model, UnigramModel)
    scores = model.scores.copy()
    scores[model.unknown_id] = model.unknown_score
    rows = Tokenizer(parts).encode_batch(lines)
    return sum(float(scores[row].sum()) for row in rows) / sum(map(len, lines))


CASES = [
    pytest.param("tinyshakespeare.txt", 2000, id="shakespeare-2000"),
    pytest.param("tinyshakespeare.txt", 4000, id="shakespeare-4000"),
    pytest.param("kjv-bible.txt", 2000, id="bible-2000"),
    pytest.param("kjv-bible.txt", 4000, id="bible-4000"),
]


@needs_data
@pytest.mark.parametrize(("corpus", "vocab_size"), CASES)
def test_pieces_are_those_of_sentencepiece(corpus: str, vocab_size: int) -> None:
    both = trained(corpus, vocab_size)

    shared = set(both.ours.tokens) & set(both.theirs.tokens)

    assert len(both.ours.tokens) == len(both.theirs.tokens) == vocab_size
    assert len(shared) >= LEAST_OVERLAP * vocab_size


@needs_data
@pytest.mark.parametrize(("corpus", "vocab_size"), CASES)
def test_held_out_text_is_as_likely_as_with_sentencepiece(corpus: str, vocab_size: int) -> None:
    both = trained(corpus, vocab_size)
    expected = log_likelihood(both.theirs, both.held_out)

    likelihood = log_likelihood(both.ours, both.held_out)

    assert likelihood >= expected * (1 + LIKELIHOOD_TOLERANCE)


@pytest.mark.parametrize("num_threads", [2, 3, 5])
def test_result_does_not_depend_on_threads(num_threads: int) -> None:
    texts = [f"{word} {word[:3]}{number}" for number in range(300) for word in SENTENCES[1].split()]
    alone = train_unigram(texts, 50, num_threads=1)

    together = train_unigram(texts, 50, num_threads=num_threads)

    assert together.tokens == alone.tokens
    assert isinstance(alone.model, UnigramModel)
    assert isinstance(together.model, UnigramModel)
    assert together.model.scores.tolist() == alone.model.scores.tolist()


def test_every_character_is_kept_at_full_coverage() -> None:
    parts = train_unigram(SENTENCES, 27, UnigramSettings(character_coverage=1.0))

    missing = {char for text in SENTENCES for char in text} - {
        token.decode() for token in parts.tokens
    }

    assert missing == {" "}


def test_rare_characters_are_unknown_below_full_coverage() -> None:
    parts = train_unigram(SENTENCES, 24, UnigramSettings(character_coverage=0.95))

    ids = Tokenizer(parts).encode_ordinary("\u4e2d")

    assert ids[-1] == parts.tokens.index(b"<unk>")


def test_text_comes_back() -> None:
    tokenizer = Tokenizer(train_unigram(SENTENCES, 27, UnigramSettings(character_coverage=1.0)))

    text = tokenizer.decode(tokenizer.encode_ordinary("the synthesis, there!"))

    assert text == "the synthesis, there!"


def test_bytes_stand_for_unknown_characters() -> None:
    tokenizer = Tokenizer(train_unigram(SENTENCES, 280, UnigramSettings(byte_fallback=True)))

    text = tokenizer.decode(tokenizer.encode_ordinary("the \U0001f600"))

    assert text == "the \U0001f600"


@pytest.mark.parametrize(
    ("layout", "first"),
    [
        pytest.param(SENTENCEPIECE_LAYOUT, [b"<unk>", b"<s>", b"</s>"], id="sentencepiece"),
        pytest.param(T5_LAYOUT, [b"<pad>", b"</s>", b"<unk>"], id="t5"),
    ],
)
def test_special_tokens_take_the_first_ids(layout: SpecialLayout, first: list[bytes]) -> None:
    parts = train_unigram(SENTENCES, 27, UnigramSettings(layout=layout))

    assert parts.tokens[:3] == first


def test_end_token_follows_each_text() -> None:
    parts = train_unigram(SENTENCES, 27, UnigramSettings(layout=T5_LAYOUT))
    plain = Tokenizer(replace(parts, template=Template())).encode("the end")

    ids = Tokenizer(parts).encode("the end")

    assert ids == [*plain, 1]


def test_progress_tells_how_many_pieces_are_left() -> None:
    calls: list[tuple[int, int]] = []

    train_unigram(SENTENCES, 27, progress=lambda *call: calls.append(call))

    sizes = [left for left, _ in calls]
    assert sizes == sorted(sizes, reverse=True)
    assert {size for _, size in calls} == {27}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        pytest.param({"vocab_size": 5000}, "these texts support", id="too-large"),
        pytest.param({"vocab_size": 10}, "characters alone are", id="too-small"),
        pytest.param({"vocab_size": 3}, "vocab_size=3, expected more than", id="no-room"),
        pytest.param({"character_coverage": 0.0}, "character_coverage=0", id="coverage"),
        pytest.param({"shrinking_factor": 1.0}, "shrinking_factor=1", id="shrinking"),
        pytest.param({"num_sub_iterations": 0}, "num_sub_iterations=0", id="iterations"),
        pytest.param({"num_threads": 0}, "num_threads=0", id="threads"),
    ],
)
def test_what_cannot_be_trained_is_refused(options: dict[str, Any], message: str) -> None:
    vocab_size = options.pop("vocab_size", 27)
    num_threads = options.pop("num_threads", None)

    with pytest.raises(ValueError, match=message):
        train_unigram(SENTENCES, vocab_size, UnigramSettings(**options), num_threads=num_threads)


def test_layout_without_its_unknown_token_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown_token='<unk>', expected one of"):
        SpecialLayout(("<pad>",))
