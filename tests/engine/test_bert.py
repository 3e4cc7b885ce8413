"""BERT: ids, offsets and text are those of the tokenizers library, cased and uncased."""

import pickle
from pathlib import Path

import hypothesis.strategies as st
import pytest
import tokenizers
from hypothesis import given, settings

from tests.engine.wordpiece_oracles import (
    CASINGS,
    TEXT_PATHS,
    bert,
    bert_of_tokenizers,
    every_character,
    located,
    located_by_tokenizers,
    needs_bert,
)
from weldlm.tokenizer import AddedToken, Tokenizer
from weldlm.tokenizer.bert import WordPieceDecoder, WordPieceModel, bert_parts
from weldlm.tokenizer.parts import TokenizerParts

CHARACTERS = every_character()
# what normalizers change, move or drop: case, accents, marks of several classes, Hangul, Chinese
# characters, controls, white space
CHANGING = st.one_of(
    st.sampled_from("Ab \u00c5\u00e9\u0130\u03a3\u1e69\ufb03\uac00\uac01\u1112\u1161\u11ab"),
    st.sampled_from("\u0301\u0323\u0334\u0345\u0f73\u0344\u1be6\u1bf2\u302e\U0001d165\U0001d16d"),
    st.sampled_from("\u4e2d\uf900\U0002f938\U0001d15f\x00\x1f\u00ad\u200b\ufffd\t\n\u0085\u3000"),
    st.characters(codec="utf-8"),
)
SMALL_VOCABULARY = ["[UNK]", "[CLS]", "[SEP]", "a", "##b", "ab", "##bc", "##\u4e2d", "##", "!"]


def chunks(texts: list[str], size: int) -> list[str]:
    return ["".join(texts[i : i + size]) for i in range(0, len(texts), size)]


@needs_bert
@pytest.mark.parametrize("casing", CASINGS)
@pytest.mark.parametrize("path", TEXT_PATHS, ids=lambda path: path.stem)
def test_beginning_of_a_corpus(path: Path, casing: str) -> None:
    text = path.read_text(encoding="utf-8")[:10_000]

    assert located(casing, text) == located_by_tokenizers(casing, text)


@needs_bert
@pytest.mark.slow
@pytest.mark.parametrize("casing", CASINGS)
@pytest.mark.parametrize("path", TEXT_PATHS, ids=lambda path: path.stem)
def test_whole_corpus(path: Path, casing: str) -> None:
    paragraphs = path.read_text(encoding="utf-8").split("\n\n")

    batch = bert(casing).encode_batch(paragraphs, allowed_special="all")

    expected = [encoding.ids for encoding in bert_of_tokenizers(casing).encode_batch(paragraphs)]
    assert [ids.tolist() for ids in batch] == expected


@needs_bert
@pytest.mark.parametrize("casing", CASINGS)
def test_every_hundredth_character_between_letters(casing: str) -> None:
    text = " ".join(f"a{char}b" for char in CHARACTERS[::101])

    assert located(casing, text) == located_by_tokenizers(casing, text)


@needs_bert
@pytest.mark.slow
@pytest.mark.parametrize("casing", CASINGS)
def test_every_character_between_letters(casing: str) -> None:
    texts = chunks([f" a{char}b" for char in CHARACTERS], 5000)

    mismatches = [t for t in texts if located(casing, t) != located_by_tokenizers(casing, t)]

    assert mismatches == []


@needs_bert
@pytest.mark.slow
@pytest.mark.parametrize("casing", CASINGS)
def test_every_character_alone(casing: str) -> None:
    batch = bert(casing).encode_batch(CHARACTERS)

    expected = [encoding.ids for encoding in bert_of_tokenizers(casing).encode_batch(CHARACTERS)]
    assert [ids.tolist() for ids in batch] == expected


@needs_bert
@pytest.mark.parametrize("casing", CASINGS)
@settings(max_examples=60)
@given(text=st.text(CHANGING, max_size=30))
def test_any_text(casing: str, text: str) -> None:
    assert located(casing, text) == located_by_tokenizers(casing, text)


@needs_bert
@pytest.mark.slow
@pytest.mark.parametrize("casing", CASINGS)
@settings(max_examples=50_000)
@given(text=st.text(CHANGING, max_size=30))
def test_many_texts(casing: str, text: str) -> None:
    assert located(casing, text) == located_by_tokenizers(casing, text)


@needs_bert
@pytest.mark.parametrize("num_letters", [99, 100, 101, 5000])
@pytest.mark.parametrize("letter", ["a", "\u0434", "\u0e01"], ids=["ascii", "cyrillic", "thai"])
def test_long_words(letter: str, num_letters: int) -> None:
    text = letter * num_letters

    assert located("uncased", text) == located_by_tokenizers("uncased", text)


@needs_bert
@settings(max_examples=60)
@given(ids=st.lists(st.integers(0, 30521), max_size=20), skip=st.booleans())
def test_text_of_any_ids(ids: list[int], skip: bool) -> None:
    text = bert("uncased").decode(ids, skip_special_tokens=skip)

    assert text == bert_of_tokenizers("uncased").decode(ids, skip_special_tokens=skip)


@needs_bert
def test_text_of_every_token() -> None:
    ids = list(range(30522))

    text = bert("uncased").decode(ids)

    assert text == bert_of_tokenizers("uncased").decode(ids, skip_special_tokens=False)


@pytest.mark.parametrize("cleanup", [True, False])
@pytest.mark.parametrize("prefix", ["##", "", "@@"])
def test_decoder_is_that_of_tokenizers(prefix: str, cleanup: bool) -> None:
    tokens = ["##a", "b", "##c", ".", "n't", "do not", "'", "a ' b", "'s", "@@x", "##", "\u00e9 ?"]
    oracle = tokenizers.decoders.WordPiece(prefix, cleanup)

    tables = WordPieceDecoder(prefix, cleanup).tables([token.encode() for token in tokens])

    firsts = [oracle.decode([token]).encode() for token in tokens]
    nexts = [oracle.decode(["b", token])[1:].encode() for token in tokens]
    assert (tables.first_texts, tables.texts) == (firsts, nexts)


@settings(max_examples=60)
@given(word=st.text(st.sampled_from("ab\u4e2d#c!"), min_size=1, max_size=12))
@pytest.mark.parametrize("prefix", ["##", ""])
@pytest.mark.parametrize("max_chars", [0, 3, 100])
def test_words_are_spelled_as_in_tokenizers(max_chars: int, prefix: str, word: str) -> None:
    vocab = {token: i for i, token in enumerate(SMALL_VOCABULARY)}
    oracle = tokenizers.Tokenizer(
        tokenizers.models.WordPiece(
            vocab,
            unk_token="[UNK]",
            continuing_subword_prefix=prefix,
            max_input_chars_per_word=max_chars,
        )
    )
    model = WordPieceModel(len(vocab), continuing_prefix=prefix, max_chars_per_word=max_chars)
    tokenizer = Tokenizer(TokenizerParts(tokens=[t.encode() for t in vocab], model=model))

    located_ids = tokenizer.encode_with_offsets(word)

    expected = oracle.encode(word)
    assert located_ids.ids == expected.ids
    assert [tuple(place) for place in located_ids.offsets.tolist()] == expected.offsets


def test_added_token_behind_the_vocabulary_spells_no_word() -> None:
    tokens = [token.encode() for token in ("[UNK]", "a", "##b", "ab")]
    parts = TokenizerParts(
        tokens=tokens, model=WordPieceModel(3), added_tokens=(AddedToken("ab", 3),)
    )

    tokenizer = Tokenizer(parts)

    assert tokenizer.encode_ordinary("ab") == [1, 2]
    assert tokenizer.encode("ab", allowed_special="all") == [3]


def test_pickled_parts_encode_the_same() -> None:
    tokenizer = Tokenizer(bert_parts(SMALL_VOCABULARY))

    copy = pickle.loads(pickle.dumps(tokenizer))

    assert copy.encode("Abc ab\u4e2d!") == tokenizer.encode("Abc ab\u4e2d!") == [1, 0, 5, 0, 9, 2]


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        pytest.param(["[UNK]", "[CLS]"], r"has no \[SEP\]", id="no-sep"),
        pytest.param(["[CLS]", "[SEP]"], r"has no unk_token '\[UNK\]'", id="no-unk"),
    ],
)
def test_refuses_a_vocabulary_without_its_special_tokens(tokens: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Tokenizer(bert_parts(tokens))


def test_refuses_more_tokens_than_the_vocabulary_has() -> None:
    parts = TokenizerParts(tokens=[b"[UNK]", b"a"], model=WordPieceModel(3))

    with pytest.raises(ValueError, match="unk_id is 0 of 3 tokens in a vocabulary of 2"):
        Tokenizer(parts)
