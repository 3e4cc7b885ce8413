"""Unicode forms, lower case and accents: texts and origins are those of the tokenizers library."""

import hypothesis.strategies as st
import pytest
import tokenizers
from hypothesis import given, settings

from weldlm import _tokenizer
from weldlm.tokenizer import Tokenizer
from weldlm.tokenizer.bert import BertNormalizer, WordPieceModel
from weldlm.tokenizer.parts import Normalizer, TokenizerParts
from weldlm.tokenizer.unicode_normalizers import Lowercase, StripAccents, UnicodeNormalizer

theirs = tokenizers.normalizers

PAIRS: dict[str, tuple[Normalizer, tokenizers.normalizers.Normalizer]] = {
    "NFC": (UnicodeNormalizer("NFC"), theirs.NFC()),
    "NFD": (UnicodeNormalizer("NFD"), theirs.NFD()),
    "NFKC": (UnicodeNormalizer("NFKC"), theirs.NFKC()),
    "NFKD": (UnicodeNormalizer("NFKD"), theirs.NFKD()),
    "lowercase": (Lowercase(), theirs.Lowercase()),
    "strip-accents": (StripAccents(), theirs.StripAccents()),
    "bert-uncased": (BertNormalizer(), theirs.BertNormalizer()),
    "bert-cased": (
        BertNormalizer(strip_accents=False, lowercase=False),
        theirs.BertNormalizer(lowercase=False),
    ),
    "bert-nothing": (
        BertNormalizer(False, False, False, False),
        theirs.BertNormalizer(False, False, False, False),
    ),
}
CHARACTERS = [chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000]
# marks of many classes, what composes with them, singletons, Hangul, halfwidth marks
COMPOSING = st.one_of(
    st.sampled_from(
        "aeAsq\u0301\u0323\u0307\u0304\u0334\u0345\u0f71\u0f72\u0f73\u0f74\u0344\u093c"
    ),
    st.sampled_from(
        "\u1e69\u00e9\u1ea5\u0958\u2126\u212b\ufb03\uff76\uff9e\u3099\u30ab\u1100\u1161"
    ),
    st.sampled_from(
        "\u11a8\u11a7\uac00\uac01\u0b47\u0b56\u0b57\u1026\u102e\u0dd9\u0dca\u0dcf \u4e2d"
    ),
    st.characters(codec="utf-8"),
)


def normalized(normalizer: Normalizer, text: str) -> str:
    return _tokenizer.normalized(normalizer.build(), text).decode()


@pytest.mark.parametrize("between", ["", "a"], ids=["side-by-side", "between-letters"])
@pytest.mark.parametrize("name", PAIRS)
def test_every_seventh_character(name: str, between: str) -> None:
    ours, oracle = PAIRS[name]
    text = between.join(CHARACTERS[:0x30000:7])

    assert normalized(ours, text) == oracle.normalize_str(text)


@pytest.mark.slow
@pytest.mark.parametrize("between", ["", "a"], ids=["side-by-side", "between-letters"])
@pytest.mark.parametrize("name", PAIRS)
def test_every_character(name: str, between: str) -> None:
    ours, oracle = PAIRS[name]
    text = between.join(CHARACTERS)

    assert normalized(ours, text) == oracle.normalize_str(text)


@pytest.mark.parametrize("name", PAIRS)
@settings(max_examples=60)
@given(text=st.text(COMPOSING, max_size=12))
def test_any_text(name: str, text: str) -> None:
    ours, oracle = PAIRS[name]

    assert normalized(ours, text) == oracle.normalize_str(text)


@pytest.mark.parametrize("name", PAIRS)
@settings(max_examples=60)
@given(text=st.text(COMPOSING, max_size=12))
def test_characters_stand_for_those_of_tokenizers(name: str, text: str) -> None:
    ours, oracle = PAIRS[name]
    chars = sorted(set(oracle.normalize_str(text)))
    # every character is a token
    vocab = {token: i for i, token in enumerate(["[UNK]", *chars])}
    expected = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(vocab, unk_token="[UNK]", continuing_subword_prefix="")
    )
    expected.normalizer = oracle
    tokenizer = Tokenizer(
        TokenizerParts(
            tokens=[token.encode() for token in vocab],
            model=WordPieceModel(len(vocab), continuing_prefix=""),
            normalizers=(ours,),
        )
    )

    located = tokenizer.encode_with_offsets(text)

    assert [tuple(place) for place in located.offsets.tolist()] == expected.encode(text).offsets


def test_refuses_an_unknown_form() -> None:
    with pytest.raises(ValueError, match="no normalization form is called 'NFX'; expected NFC"):
        _tokenizer.UnicodeNormalizer("NFX")
