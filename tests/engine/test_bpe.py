"""Models of byte-level BPE against tiktoken and tokenizers, and their training."""

import json
import time

import hypothesis.strategies as st
import numpy as np
import pytest
import tiktoken
import tokenizers
from hypothesis import given
from tokenizers import Regex, decoders, models, pre_tokenizers, trainers

from tests.engine.tokenizer_oracles import standard_library_texts
from weldlm.tokenizer import Tokenizer
from weldlm.tokenizer.bpe import BpeModel, Pattern, PatternSequence, RankedBpeModel
from weldlm.tokenizer.byte_characters import characters_from_bytes
from weldlm.tokenizer.parts import AddedToken, Pretokenizer, TokenizerParts
from weldlm.tokenizer.pattern_families import PATTERNS
from weldlm.tokenizer.regex_pattern import RegexPattern
from weldlm.tokenizer.training import BpeSettings, train_bpe

BYTES = [bytes([byte]) for byte in range(256)]
WORDS = st.text(st.sampled_from("abc"), min_size=2, max_size=7)


def ranked(tokens: list[bytes]) -> Tokenizer:
    return Tokenizer(
        TokenizerParts(tokens=tokens, model=RankedBpeModel(), pretokenizer=Pattern("gpt2"))
    )


def ranked_of_tiktoken(tokens: list[bytes]) -> tiktoken.Encoding:
    return tiktoken.Encoding(
        "ranked",
        pat_str=PATTERNS["gpt2"],
        mergeable_ranks={token: rank for rank, token in enumerate(tokens) if token},
        special_tokens={},
    )


@given(
    words=st.lists(WORDS, unique=True, max_size=12),
    text=st.text(st.sampled_from("abc "), max_size=150),
)
def test_any_ranks_encode_as_in_tiktoken(words: list[str], text: str) -> None:
    tokens = BYTES + [word.encode() for word in words]

    assert ranked(tokens).encode(text) == ranked_of_tiktoken(tokens).encode(text)


@given(text=st.text(st.sampled_from("abc "), max_size=150))
def test_gaps_stand_for_nothing(text: str) -> None:
    tokens = [*BYTES, b"", b"ab", b"", b"", b"abc", b"bc", b"", b"cab", b"abcab"]

    assert ranked(tokens).encode(text) == ranked_of_tiktoken(tokens).encode(text)


@pytest.mark.parametrize("size", [500, 1000, 5000])
def test_ranked_runs_of_one_letter_encode_as_in_tiktoken(size: int) -> None:
    tokens = BYTES + [b"a" * length for length in (2, 3, 5, 4, 8)]

    assert ranked(tokens).encode("a" * size) == ranked_of_tiktoken(tokens).encode("a" * size)


def random_merges(pairs: list[tuple[int, int]]) -> tuple[list[bytes], list[tuple[int, int, int]]]:
    """Merges of tokens that are there when they are made; a number chooses among them."""
    tokens = [b"a", b"b", b"c"]
    merges: list[tuple[int, int, int]] = []
    for left, right in pairs:
        first, second = tokens[left % len(tokens)], tokens[right % len(tokens)]
        if len(first + second) <= 9 and first + second not in tokens:
            tokens.append(first + second)
            merges.append((tokens.index(first), tokens.index(second), len(tokens) - 1))
    return tokens, merges


@given(
    pairs=st.lists(st.tuples(st.integers(0, 99), st.integers(0, 99)), max_size=14),
    whole=WORDS,
    ignore_merges=st.booleans(),
    text=st.text(st.sampled_from("abc "), max_size=150),
)
def test_any_merges_encode_as_in_tokenizers(
    pairs: list[tuple[int, int]], whole: str, ignore_merges: bool, text: str
) -> None:
    made, merges = random_merges(pairs)
    tokens = made + [token for token in [*BYTES, whole.encode()] if token not in made]
    names = [characters_from_bytes(token) for token in tokens]
    oracle = tokenizers.Tokenizer(
        models.BPE(
            vocab={name: i for i, name in enumerate(names)},
            merges=[(names[left], names[right]) for left, right, _ in merges],
            ignore_merges=ignore_merges,
        )
    )
    oracle.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    rows = np.array(merges, dtype=np.uint32).reshape(-1, 3)
    model = BpeModel(rows, ignore_merges=ignore_merges)

    tokenizer = Tokenizer(TokenizerParts(tokens=tokens, model=model, pretokenizer=Pattern("gpt2")))

    assert tokenizer.encode(text) == oracle.encode(text).ids


@pytest.mark.parametrize(
    "model",
    [
        RankedBpeModel(hidden_ids=(256,)),
        BpeModel(np.empty((0, 3), np.uint32), ignore_merges=True, hidden_ids=(256,)),
        BpeModel(np.empty((0, 3), np.uint32), ignore_merges=True, num_tokens=256),
    ],
    ids=["ranks", "hidden", "behind-the-vocabulary"],
)
def test_text_of_a_special_token_is_never_that_token(model: BpeModel | RankedBpeModel) -> None:
    parts = TokenizerParts(
        tokens=[*BYTES, b"pad"],
        model=model,
        added_tokens=(AddedToken("pad", 256),),
        pretokenizer=Pattern("gpt2"),
    )

    assert Tokenizer(parts).encode_ordinary("pad") == [*b"pad"]


@pytest.mark.parametrize("letters", ["a", "ab", " ", "=", "abcdefghijklmnopqrstuvwxyz"])
def test_long_ranked_piece_takes_no_quadratic_time(letters: str) -> None:
    words = [letters.encode() * 40]
    tokens = BYTES + list(
        {word[i:j]: 0 for word in words for i in range(9) for j in range(i + 2, 28)}
    )
    tokenizer = ranked(tokens)
    text = letters * (400_000 // len(letters))

    start = time.process_time()
    ids = tokenizer.encode(text)
    seconds = time.process_time() - start

    assert ids == ranked_of_tiktoken(tokens).encode(text)
    # about 0.05 s; a scan for each merge would take at least 20 s
    assert seconds < 3


def test_vocabulary_without_a_byte_is_refused() -> None:
    with pytest.raises(ValueError, match="no token stands for the byte 255"):
        ranked(BYTES[:-1])


TRAINED: dict[str, tuple[Pretokenizer, pre_tokenizers.PreTokenizer]] = {
    family: (Pattern(family), pre_tokenizers.Split(Regex(PATTERNS[family]), "isolated"))
    for family in ("llama3", "qwen2", "o200k", "tekken")
} | {
    "smollm": (Pattern("smollm"), pre_tokenizers.Digits(individual_digits=True)),
    "any": (
        RegexPattern(r"[A-Z]?[a-z]+|\p{L}+", "tokenizers", "all"),
        pre_tokenizers.Split(Regex(r"[A-Z]?[a-z]+|\p{L}+"), "isolated"),
    ),
    "sequence": (
        PatternSequence((Pattern("digits"), Pattern("llama3"))),
        pre_tokenizers.Sequence(
            [
                pre_tokenizers.Digits(individual_digits=False),
                pre_tokenizers.Split(Regex(PATTERNS["llama3"]), "isolated"),
            ]
        ),
    ),
}


def merges_of_tokenizers(
    texts: list[str], split: pre_tokenizers.PreTokenizer, uses_regex: bool
) -> list[list[str]]:
    tokenizer = tokenizers.Tokenizer(models.BPE())
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=uses_regex)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([split, byte_level])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=900,
        min_frequency=2,
        special_tokens=["<|endoftext|>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    merges: list[list[str]] = json.loads(tokenizer.to_str())["model"]["merges"]
    return merges


@pytest.mark.parametrize("name", TRAINED)
def test_training_with_a_pattern_merges_as_in_tokenizers(name: str) -> None:
    pattern, split = TRAINED[name]
    texts = standard_library_texts(6)

    parts = trained_with(pattern, texts)

    assert isinstance(parts.model, BpeModel)
    names = [characters_from_bytes(token) for token in parts.tokens]
    merges = [[names[left], names[right]] for left, right, _ in parts.model.merges.tolist()]
    assert merges == merges_of_tokenizers(texts, split, uses_regex=name == "smollm")


def trained_with(pattern: Pretokenizer, texts: list[str]) -> TokenizerParts:
    return train_bpe(texts, 900, BpeSettings(pattern=pattern), num_threads=2)
