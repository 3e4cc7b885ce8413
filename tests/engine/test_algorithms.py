"""Learning by the name of an algorithm, and what the tokenizers library makes of the result."""

from pathlib import Path

import pytest
import tokenizers

from tests.engine.tokenizer_oracles import standard_library_texts
from weldlm.tokenizer import BpeSettings, Tokenizer, UnigramSettings, WordPieceSettings
from weldlm.tokenizer.algorithms import Algorithm, Settings
from weldlm.tokenizer.bpe import Pattern
from weldlm.tokenizer.unigram_training import T5_LAYOUT, SpecialLayout, train_unigram
from weldlm.tokenizer.wordpiece_training import train_wordpiece

TEXT = (
    standard_library_texts(8)[7][:20_000] + " \u4e2d\u6587 caf\xe9  <unk> [MASK] <|endoftext|> \n\n"
)
LLAMA3 = Pattern("llama3")
SPECIAL = {
    "bpe": ["<|endoftext|>"],
    "wordpiece": ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"],
    "unigram": ["<unk>", "<s>", "</s>"],
}


@pytest.mark.parametrize("algorithm", ["bpe", "wordpiece", "unigram"])
def test_learned_tokenizer_has_its_size_and_special_tokens(algorithm: Algorithm) -> None:
    learned = Tokenizer.train(standard_library_texts(6), 900, algorithm=algorithm)

    assert learned.vocab_size == 900
    assert list(learned.special_tokens) == SPECIAL[algorithm]


@pytest.mark.parametrize(
    "algorithm",
    [
        pytest.param("bpe", id="bpe"),
        pytest.param("wordpiece", id="wordpiece"),
        pytest.param("unigram", id="unigram"),
        pytest.param(UnigramSettings(layout=T5_LAYOUT, byte_fallback=True), id="unigram-of-bytes"),
    ],
)
def test_saved_file_encodes_alike_in_tokenizers(
    algorithm: Algorithm | Settings, tmp_path: Path
) -> None:
    path = tmp_path / "tokenizer.json"
    learned = Tokenizer.train(standard_library_texts(6), 900, algorithm=algorithm)

    learned.save(path)

    ids = learned.encode(TEXT, allowed_special="all")
    assert ids == tokenizers.Tokenizer.from_file(str(path)).encode(TEXT).ids
    assert ids == Tokenizer.from_file(path).encode(TEXT, allowed_special="all")


@pytest.mark.parametrize("algorithm", ["bpe", "wordpiece", "unigram"])
def test_special_tokens_take_the_first_ids(algorithm: Algorithm) -> None:
    special_tokens = ["<x>", "[UNK]", "<unk>", "<y>"]

    learned = Tokenizer.train(
        standard_library_texts(6), 900, algorithm=algorithm, special_tokens=special_tokens
    )

    assert [learned.id_to_token(i).decode() for i in range(4)] == special_tokens


def test_wordpiece_is_that_of_its_function() -> None:
    texts = standard_library_texts(6)

    learned = Tokenizer.train(texts, 700, algorithm="wordpiece", min_frequency=5)

    tokens = train_wordpiece(texts, 700, WordPieceSettings(min_frequency=5))
    assert [token.decode() for token in learned.parts.tokens] == tokens


def test_unigram_is_that_of_its_function() -> None:
    texts = standard_library_texts(6)
    settings = UnigramSettings(layout=SpecialLayout(("<unk>", "<eos>"), end_token="<eos>"))

    learned = Tokenizer.train(texts, 700, algorithm=settings)

    assert learned.parts.tokens == train_unigram(texts, 700, settings).tokens
    assert learned.encode("def")[-1] == 1


def test_settings_are_taken_with_what_replaces_them() -> None:
    settings = BpeSettings(pattern=LLAMA3, min_frequency=9)

    learned = Tokenizer.train(["ab ab ab"], 258, algorithm=settings, min_frequency=2)

    assert learned.vocab_size == 258
    assert learned.parts.pretokenizer == LLAMA3


@pytest.mark.parametrize(
    ("algorithm", "roles"),
    [
        pytest.param("bpe", {}, id="bpe"),
        pytest.param(
            "wordpiece",
            {
                "pad_token": "[PAD]",
                "unk_token": "[UNK]",
                "cls_token": "[CLS]",
                "sep_token": "[SEP]",
                "mask_token": "[MASK]",
            },
            id="wordpiece",
        ),
        pytest.param(
            "unigram",
            {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"},
            id="unigram",
        ),
    ],
)
def test_special_tokens_have_their_roles(algorithm: Algorithm, roles: dict[str, str]) -> None:
    learned = Tokenizer.train(standard_library_texts(2), 380, algorithm=algorithm)

    assert learned.config.roles == roles


@pytest.mark.parametrize("algorithm", ["bpe", "wordpiece", "unigram"])
def test_progress_grows_to_its_end(algorithm: Algorithm) -> None:
    reports: list[tuple[int, int]] = []

    Tokenizer.train(
        standard_library_texts(6),
        600,
        algorithm=algorithm,
        progress=lambda *report: reports.append(report),
    )

    done = [done for done, _ in reports]
    assert done == sorted(done)
    assert done[-1] >= reports[-1][1] * 0.8


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"algorithm": "lzw"}, "algorithm is 'lzw'; expected bpe, wordpiece, unigram"),
        (
            {"algorithm": "unigram", "min_frequency": 3},
            "min_frequency is 3, but Unigram merges no pairs",
        ),
        (
            {"algorithm": "wordpiece", "special_tokens": ["[CLS]"]},
            r"special_tokens=\('\[CLS\]',\) has no '\[UNK\]'",
        ),
        (
            {"algorithm": "unigram", "special_tokens": ["<s>"]},
            "unknown_token='<unk>', expected one of",
        ),
        ({"algorithm": "unigram", "special_tokens": ["<unk>", ""]}, "or an empty one"),
    ],
    ids=["algorithm", "frequency", "wordpiece-unknown", "unigram-unknown", "empty"],
)
def test_wrong_settings_are_refused_before_texts_are_read(
    options: dict[str, object], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        Tokenizer.train(iter(()), 300, **options)  # type: ignore[arg-type]  # the claim


def test_role_of_padding_serves_batches() -> None:
    learned = Tokenizer.train(standard_library_texts(4), 500, algorithm="wordpiece")

    rows = learned(["def", "def main and more"], padding=True)["input_ids"]

    assert rows[0][-1] == learned.pad_id == 0
