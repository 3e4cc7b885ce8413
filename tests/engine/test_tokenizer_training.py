"""Training: merges and ids of the BpeTrainer of the tokenizers library."""

import json
from collections.abc import Iterator
from pathlib import Path

import hypothesis.strategies as st
import pytest
import tokenizers
from hypothesis import given, settings

from tests.engine.tokenizer_oracles import bpe_of_tokenizers, standard_library_texts
from weldlm.tokenizer import Tokenizer

Model = tuple[dict[str, int], list[list[str]]]


def trained_by_tokenizers(
    texts: list[str],
    vocab_size: int,
    *,
    min_frequency: int = 2,
    special_tokens: tuple[str, ...] = ("<|endoftext|>",),
) -> Model:
    tokenizer = bpe_of_tokenizers()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=list(special_tokens),
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return model_of(tokenizer.to_str())


def model_of(document: str) -> Model:
    model = json.loads(document)["model"]
    return model["vocab"], model["merges"]


def saved_model(tokenizer: Tokenizer, folder: Path) -> Model:
    tokenizer.save(folder / "tokenizer.json")
    return model_of((folder / "tokenizer.json").read_text(encoding="utf-8"))


@pytest.mark.parametrize("vocab_size", [257, 258, 500, 2000])
@pytest.mark.parametrize("min_frequency", [1, 2, 10])
def test_model_is_that_of_tokenizers(vocab_size: int, min_frequency: int, tmp_path: Path) -> None:
    texts = standard_library_texts(30)

    trained = Tokenizer.train(texts, vocab_size, min_frequency=min_frequency)

    expected = trained_by_tokenizers(texts, vocab_size, min_frequency=min_frequency)
    assert saved_model(trained, tmp_path) == expected


@pytest.mark.parametrize(
    "special_tokens",
    [
        pytest.param((), id="none"),
        pytest.param(("<|endoftext|>", "<|user|>", "<pad>"), id="three"),
        pytest.param(("self", "import"), id="names-of-merged-tokens"),
        pytest.param((" the", "\u4e2d"), id="not-ascii"),
    ],
)
def test_special_tokens_are_those_of_tokenizers(
    special_tokens: tuple[str, ...], tmp_path: Path
) -> None:
    texts = standard_library_texts(4)

    trained = Tokenizer.train(texts, 700, special_tokens=special_tokens)

    expected = trained_by_tokenizers(texts, 700, special_tokens=special_tokens)
    assert saved_model(trained, tmp_path) == expected


def supported_size(texts: list[str]) -> int:
    vocab, _ = trained_by_tokenizers(texts, 1000, min_frequency=1)
    return len(vocab)


@settings(deadline=None, max_examples=50)
@given(
    texts=st.lists(
        st.text(st.sampled_from("aab \u00e9"), min_size=1, max_size=30), min_size=1, max_size=5
    )
)
def test_ties_and_runs_are_resolved_as_in_tokenizers(
    texts: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    vocab_size = supported_size(texts)

    trained = Tokenizer.train(texts, vocab_size, min_frequency=1)

    expected = trained_by_tokenizers(texts, vocab_size, min_frequency=1)
    assert saved_model(trained, tmp_path_factory.mktemp("trained")) == expected


@pytest.mark.parametrize("num_threads", [2, 3, 8])
def test_threads_do_not_change_the_model(num_threads: int, tmp_path: Path) -> None:
    texts = standard_library_texts(30)
    expected = saved_model(Tokenizer.train(texts, 800, num_threads=1), tmp_path)

    trained = Tokenizer.train(texts, 800, num_threads=num_threads)

    assert saved_model(trained, tmp_path) == expected


def test_texts_may_come_one_by_one(tmp_path: Path) -> None:
    texts = standard_library_texts(6)

    def stream() -> Iterator[str]:
        yield from texts

    expected = saved_model(Tokenizer.train(texts, 500), tmp_path)
    assert saved_model(Tokenizer.train(stream(), 500), tmp_path) == expected


def test_special_tokens_in_the_texts_are_plain_text() -> None:
    trained = Tokenizer.train(["<|endoftext|> <|endoftext|>"], 262)

    assert trained.decode(trained.encode_ordinary("<|endoftext|>")) == "<|endoftext|>"
    assert trained.token_to_id("<|endoftext|>") == 0
    assert 0 not in trained.encode_ordinary("<|endoftext|>")


def test_progress_ends_at_the_size_asked_for() -> None:
    reports: list[tuple[int, int]] = []

    Tokenizer.train(
        standard_library_texts(6), 600, progress=lambda done, total: reports.append((done, total))
    )

    assert reports[-1] == (600, 600)
    assert reports == sorted(reports)


def test_smaller_vocabulary_is_taken_where_allowed() -> None:
    assert Tokenizer.train(["ab ab"], 5_000, allow_smaller=True).vocab_size == 258


def test_exception_in_progress_stops_the_training() -> None:
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt(f"{done} of {total}")

    with pytest.raises(KeyboardInterrupt, match="of 600"):
        Tokenizer.train(standard_library_texts(6), 600, progress=stop)


@pytest.mark.parametrize(
    ("texts", "vocab_size", "arguments", "message"),
    [
        pytest.param(
            ["ab ab"],
            5000,
            {},
            "vocab_size is 5000, but these texts support 258 tokens at min_frequency 2; "
            "give more text, lower min_frequency, or ask for 258 or fewer",
            id="too-little-text",
        ),
        pytest.param([], 300, {}, "vocab_size is 300, but these texts support 257", id="no-text"),
        pytest.param(["ab"], 256, {}, "vocab_size=256, expected at least 257", id="too-small"),
        pytest.param(["ab"], -1, {}, "vocab_size=-1, expected at least 257", id="negative"),
        pytest.param(
            ["ab"],
            300,
            {"min_frequency": 0},
            "min_frequency=0, expected at least 1",
            id="no-frequency",
        ),
        pytest.param(
            ["ab"], 300, {"num_threads": 0}, "num_threads=0, expected at least 1", id="no-threads"
        ),
        pytest.param(
            ["ab"], 300, {"special_tokens": ["<x>", "<x>"]}, "holds a token twice", id="twice"
        ),
        pytest.param(["ab"], 300, {"special_tokens": ["!"]}, "'!' has 1 bytes", id="a-byte"),
        pytest.param(["ab"], 300, {"special_tokens": [""]}, "or an empty one", id="empty"),
        pytest.param(
            ["ab"],
            300,
            {"special_tokens": ["x" * 257]},
            "has 257 bytes, expected 2 to 256",
            id="overlong",
        ),
        pytest.param(
            ["ab"],
            300,
            {"special_tokens": ["\xe9\xe9"]},
            "would be decoded as other bytes",
            id="ambiguous",
        ),
    ],
)
def test_refuses_what_cannot_be_trained(
    texts: list[str], vocab_size: int, arguments: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Tokenizer.train(texts, vocab_size, **arguments)  # type: ignore[arg-type]  # a table


@pytest.mark.parametrize(
    ("texts", "arguments", "message"),
    [
        pytest.param("ab", {}, "texts is one str, expected several", id="one-str"),
        pytest.param(["ab", b"ab"], {}, "text 1 is a bytes, expected str", id="bytes"),
        pytest.param(
            ["ab"], {"special_tokens": "<x>"}, "special_tokens is the str '<x>'", id="special-str"
        ),
    ],
)
def test_refuses_other_types(texts: object, arguments: dict[str, object], message: str) -> None:
    with pytest.raises(TypeError, match=message):
        Tokenizer.train(texts, 300, **arguments)  # type: ignore[arg-type]  # the claim
