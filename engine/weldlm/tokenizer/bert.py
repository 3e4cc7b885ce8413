"""BERT: WordPiece in the words of cleaned text."""

from collections.abc import Sequence
from dataclasses import dataclass

from weldlm import _tokenizer
from weldlm.tokenizer.parts import (
    AddedToken,
    DecoderTables,
    Template,
    TemplatePiece,
    TokenizerParts,
)

__all__ = [
    "SPECIAL_TOKENS",
    "BertNormalizer",
    "BertPretokenizer",
    "WordPieceDecoder",
    "WordPieceModel",
    "bert_parts",
    "bert_template",
]

SPECIAL_TOKENS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")

# what the cleanup of the tokenizers library replaces in each token, in this order
_CLEANUP = (
    (" .", "."),
    (" ?", "?"),
    (" !", "!"),
    (" ,", ","),
    (" ' ", "'"),
    (" n't", "n't"),
    (" 'm", "'m"),
    (" do not", " don't"),
    (" 's", "'s"),
    (" 've", "'ve"),
    (" 're", "'re"),
)


@dataclass(frozen=True, slots=True)
class BertNormalizer:
    """Cleans text, spaces Chinese characters, strips accents, lowers case: what is asked for."""

    clean_text: bool = True
    handle_chinese_chars: bool = True
    strip_accents: bool = True
    lowercase: bool = True

    def build(self) -> _tokenizer.Normalizer:
        return _tokenizer.BertNormalizer(
            self.clean_text, self.handle_chinese_chars, self.strip_accents, self.lowercase
        )


@dataclass(frozen=True, slots=True)
class BertPretokenizer:
    """White space separates pieces, each punctuation mark is one."""

    def build(self) -> _tokenizer.Pretokenizer:
        return _tokenizer.BertPretokenizer()


@dataclass(frozen=True, slots=True)
class WordPieceModel:
    """The longest token that begins a word, then the longest continuing ones."""

    num_tokens: int  # words are spelled in the ids below; others are of added tokens
    unk_token: str = "[UNK]"
    continuing_prefix: str = "##"
    max_chars_per_word: int = 100  # a longer word is unknown

    @property
    def algorithm(self) -> str:
        return "WordPiece"

    def build(self, vocabulary: _tokenizer.Vocabulary) -> _tokenizer.Model:
        unk_id = vocabulary.id(self.unk_token.encode())
        if unk_id is None:
            raise ValueError(
                f"the vocabulary has no unk_token {self.unk_token!r}, which stands for words "
                "that cannot be spelled; add it or name another one"
            )
        return _tokenizer.WordPiece(
            vocabulary, self.num_tokens, unk_id, self.continuing_prefix, self.max_chars_per_word
        )


@dataclass(frozen=True, slots=True)
class WordPieceDecoder:
    """Spaces between words, none before a continuing token.

    With `cleanup`, none before some punctuation and endings of English either.
    """

    continuing_prefix: str = "##"
    cleanup: bool = True

    def tables(self, tokens: Sequence[bytes]) -> DecoderTables:
        names = [token.decode("utf-8", "surrogateescape") for token in tokens]
        return DecoderTables(
            texts=[self._text(self._joined(name)) for name in names],
            first_texts=[self._text(name) for name in names],
        )

    def _joined(self, name: str) -> str:
        if name.startswith(self.continuing_prefix):
            return name.removeprefix(self.continuing_prefix)
        return " " + name

    def _text(self, text: str) -> bytes:
        if self.cleanup:
            for old, new in _CLEANUP:
                text = text.replace(old, new)
        return text.encode("utf-8", "surrogateescape")


def bert_parts(
    tokens: Sequence[str],
    *,
    lowercase: bool = True,
    strip_accents: bool | None = None,
    clean_text: bool = True,
    handle_chinese_chars: bool = True,
    continuing_prefix: str = "##",
) -> TokenizerParts:
    """The parts of a BERT tokenizer with this vocabulary, such as that of a vocab.txt.

    Args:
        tokens: by id; [PAD], [UNK], [CLS], [SEP] and [MASK] are special where they are there.
        strip_accents: None for the same as `lowercase`.

    Raises:
        ValueError: there is no [CLS] or [SEP] to put around texts.
    """
    ids = {token: token_id for token_id, token in enumerate(tokens)}
    for token in ("[CLS]", "[SEP]"):
        if token not in ids:
            raise ValueError(f"the vocabulary has no {token}; BERT puts it around every text")
    return TokenizerParts(
        tokens=[token.encode() for token in tokens],
        model=WordPieceModel(len(tokens), continuing_prefix=continuing_prefix),
        added_tokens=tuple(
            AddedToken(token, ids[token]) for token in SPECIAL_TOKENS if token in ids
        ),
        normalizers=(
            BertNormalizer(
                clean_text,
                handle_chinese_chars,
                lowercase if strip_accents is None else strip_accents,
                lowercase,
            ),
        ),
        pretokenizer=BertPretokenizer(),
        decoder=WordPieceDecoder(continuing_prefix),
        template=bert_template(ids["[CLS]"], ids["[SEP]"]),
    )


def bert_template(cls_id: int, sep_id: int) -> Template:
    first = (TemplatePiece((cls_id,)), TemplatePiece("A"), TemplatePiece((sep_id,)))
    second = (TemplatePiece("B", 1), TemplatePiece((sep_id,), 1))
    return Template(single=first, pair=first + second)
