"""WordPiece training: the vocabulary of the WordPieceTrainer of the tokenizers library.

That library gives the characters inside words ids in an order that differs from run to run. Naming
the alphabet and these characters as special tokens, in the order of this package, fixes it.
"""

from collections import Counter
from typing import Any

import hypothesis.strategies as st
import pytest
import tokenizers
from hypothesis import given, settings

from tests.engine.tokenizer_oracles import standard_library_texts
from weldlm.tokenizer.bert import SPECIAL_TOKENS, BertNormalizer
from weldlm.tokenizer.wordpiece_training import WordPieceSettings, train_wordpiece


def words_of(texts: list[str], *, lowercase: bool = True) -> Counter[str]:
    normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lowercase)
    pretokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    counts: Counter[str] = Counter()
    for text in texts:
        pieces = pretokenizer.pre_tokenize_str(normalizer.normalize_str(text))
        counts.update(piece for piece, _ in pieces)
    return counts


def ordered_alphabet(words: Counter[str], limit: int | None, initial: str) -> list[str]:
    """The alphabet and the characters inside words, both in the order of code points."""
    counts: Counter[str] = Counter()
    for word, count in words.items():
        for char in word:
            counts[char] += count
    counts.update(dict.fromkeys(initial, 1 << 60))
    kept = {char for char, _ in sorted(counts.items(), key=lambda row: (-row[1], row[0]))[:limit]}
    inside = {char for word in words for char in word[1:] if char in kept}
    return sorted(kept) + ["##" + char for char in sorted(inside)]


def trained_by_tokenizers(
    texts: list[str],
    vocab_size: int,
    *,
    min_frequency: int = 2,
    limit_alphabet: int | None = None,
    initial_alphabet: str = "",
    special_tokens: tuple[str, ...] = SPECIAL_TOKENS,
    lowercase: bool = True,
) -> list[str]:
    words = words_of(texts, lowercase=lowercase)
    fixed = ordered_alphabet(words, limit_alphabet, initial_alphabet)
    tokenizer = tokenizers.Tokenizer(tokenizers.models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = tokenizers.normalizers.BertNormalizer(lowercase=lowercase)
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.BertPreTokenizer()
    # None is not taken here
    limit: Any = {} if limit_alphabet is None else {"limit_alphabet": limit_alphabet}
    trainer = tokenizers.trainers.WordPieceTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        initial_alphabet=list(initial_alphabet),
        special_tokens=list(special_tokens) + fixed,
        show_progress=False,
        **limit,
    )
    tokenizer.train_from_iterator(texts, trainer)
    vocab = tokenizer.get_vocab(with_added_tokens=False)
    return sorted(vocab, key=lambda token: vocab[token])


@pytest.mark.parametrize("vocab_size", [300, 1000, 3000])
@pytest.mark.parametrize("min_frequency", [0, 2, 10])
def test_vocabulary_is_that_of_tokenizers(vocab_size: int, min_frequency: int) -> None:
    texts = standard_library_texts(6)

    trained = train_wordpiece(
        texts,
        vocab_size,
        WordPieceSettings(min_frequency=min_frequency, limit_alphabet=None),
        allow_smaller=True,
    )

    expected = trained_by_tokenizers(texts, vocab_size, min_frequency=min_frequency)
    assert trained == expected


@pytest.mark.parametrize("limit", [10, 30, 60])
def test_limited_alphabet_is_that_of_tokenizers(limit: int) -> None:
    texts = standard_library_texts(6)

    trained = train_wordpiece(texts, 500, WordPieceSettings(limit_alphabet=limit))

    assert trained == trained_by_tokenizers(texts, 500, limit_alphabet=limit)


def test_initial_alphabet_is_kept() -> None:
    texts = standard_library_texts(6)
    initial = "\u00e9\u4e2dz"

    trained = train_wordpiece(
        texts, 500, WordPieceSettings(limit_alphabet=40, initial_alphabet=initial)
    )

    expected = trained_by_tokenizers(texts, 500, limit_alphabet=40, initial_alphabet=initial)
    assert trained == expected


def test_special_tokens_may_be_names_of_merged_tokens() -> None:
    texts = standard_library_texts(6)
    special_tokens = ("[UNK]", "self", "##ing")

    trained = train_wordpiece(
        texts, 600, WordPieceSettings(special_tokens=special_tokens, limit_alphabet=None)
    )

    assert trained == trained_by_tokenizers(texts, 600, special_tokens=special_tokens)


def test_cased_vocabulary_is_that_of_tokenizers() -> None:
    texts = standard_library_texts(6)
    normalizer = BertNormalizer(strip_accents=False, lowercase=False)

    trained = train_wordpiece(
        texts, 800, WordPieceSettings(normalizer=normalizer, limit_alphabet=None)
    )

    assert trained == trained_by_tokenizers(texts, 800, lowercase=False)


@settings(max_examples=80)
@given(
    texts=st.lists(
        st.text(st.sampled_from("aabc# \u00e9\u4e2d"), min_size=1, max_size=30),
        min_size=1,
        max_size=5,
    )
)
def test_ties_and_runs_are_resolved_as_in_tokenizers(texts: list[str]) -> None:
    trained = train_wordpiece(
        texts, 1000, WordPieceSettings(min_frequency=1, limit_alphabet=None), allow_smaller=True
    )

    assert trained == trained_by_tokenizers(texts, 1000, min_frequency=1)


@pytest.mark.parametrize("num_threads", [2, 5])
def test_threads_do_not_change_the_vocabulary(num_threads: int) -> None:
    texts = standard_library_texts(8)

    trained = train_wordpiece(texts, 700, num_threads=num_threads)

    assert trained == train_wordpiece(texts, 700, num_threads=1)


def test_progress_ends_at_the_size_asked_for() -> None:
    reports: list[tuple[int, int]] = []

    train_wordpiece(
        standard_library_texts(6), 600, progress=lambda done, total: reports.append((done, total))
    )

    assert reports[-1] == (600, 600)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"vocab_size": 900}, "vocab_size is 900, but these texts support", id="large"),
        pytest.param({"vocab_size": 6}, "special tokens and alphabet alone are 8", id="small"),
        pytest.param({"vocab_size": 0}, "vocab_size=0, expected at least 1", id="zero"),
        pytest.param({"min_frequency": -1}, "min_frequency=-1, expected at least 0", id="negative"),
        pytest.param({"limit_alphabet": -1}, "limit_alphabet=-1, expected at least 0", id="limit"),
        pytest.param({"special_tokens": ["a", "a"]}, "holds a token twice", id="twice"),
        pytest.param({"special_tokens": [""]}, "or an empty one", id="empty"),
        pytest.param({"initial_alphabet": "\ud800"}, "holds a lone surrogate", id="surrogate"),
    ],
)
def test_refuses_what_cannot_be_trained(arguments: dict[str, Any], message: str) -> None:
    vocab_size = arguments.pop("vocab_size", 20)

    with pytest.raises(ValueError, match=message):
        train_wordpiece(["ab ab"], vocab_size, WordPieceSettings(**arguments))
