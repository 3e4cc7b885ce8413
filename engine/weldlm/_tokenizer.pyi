import enum
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

class Vocabulary:
    def __init__(self, tokens: Sequence[bytes]) -> None: ...
    def __len__(self) -> int: ...
    def tokens(self) -> list[bytes]: ...
    def id(self, token: bytes) -> int | None: ...
    def token(self, id: int) -> bytes: ...

class Model: ...

class Normalizer:
    def normalize(self, text: str) -> str: ...

class Pretokenizer: ...

class _Encode(Protocol):
    def __call__(
        self,
        text: str,
        allowed_ids: list[int] | tuple[int, ...],
        disallowed_ids: list[int] | tuple[int, ...],
        is_start: bool = True,
        before: tuple[int, ...] | None = None,
        after: tuple[int, ...] | None = None,
        /,
    ) -> list[int]: ...

class _EncodeRefusing(Protocol):
    def __call__(
        self,
        text: str,
        before: tuple[int, ...] | None = None,
        after: tuple[int, ...] | None = None,
        /,
    ) -> list[int]: ...

class _Decode(Protocol):
    def __call__(self, ids: Iterable[int], is_skipped: bytes | None = None, /) -> bytes: ...

class _DecodeText(Protocol):
    def __call__(
        self, ids: Iterable[int], is_skipped: bytes | None = None, errors: str = "strict", /
    ) -> str: ...

class Encoder:
    def __init__(
        self,
        model: Model,
        normalizers: Sequence[Normalizer],
        rewriters: Sequence[Normalizer],
        pretokenizer: Pretokenizer | None,
        added_tokens: Sequence[tuple[str, int, tuple[bool, bool, bool, bool, bool]]],
    ) -> None: ...
    def encode_segments(self, texts: Iterable[str], are_trusted: Sequence[bool]) -> list[int]: ...
    def encode_located(
        self, text: str, allowed_ids: Sequence[int], disallowed_ids: Sequence[int]
    ) -> tuple[list[int], NDArray[np.int64]]: ...
    def encode_batch(
        self,
        texts: Iterable[str],
        num_threads: int,
        allowed_ids: Sequence[int],
        disallowed_ids: Sequence[int],
        before: Sequence[int],
        after: Sequence[int],
        is_narrow: bool,
    ) -> tuple[NDArray[np.uint16] | NDArray[np.uint32], NDArray[np.int64]]: ...
    @property
    def encode(self) -> _Encode: ...
    @property
    def encode_ordinary(self) -> Callable[[str], list[int]]: ...
    @property
    def encode_refusing(self) -> _EncodeRefusing: ...
    @property
    def count(self) -> Callable[[str], int]: ...
    def clear_cache(self) -> None: ...

class Decoder:
    def __init__(
        self,
        texts: Sequence[bytes],
        first_texts: Sequence[bytes],
        silent_ids: Sequence[int],
        first_until_text: bool = False,
    ) -> None: ...
    def text(self, id: int, is_first: bool) -> bytes: ...
    def is_silent(self, id: int) -> bool: ...
    @property
    def decode(self) -> _Decode: ...
    @property
    def decode_text(self) -> _DecodeText: ...

class ByteBpe(Model):
    def __init__(
        self,
        vocabulary: Vocabulary,
        merges: NDArray[np.uint32],
        ignore_merges: bool,
        drops_bytes: bool,
    ) -> None: ...
    @staticmethod
    def of_ranks(vocabulary: Vocabulary) -> ByteBpe: ...
    def merges(self) -> NDArray[np.uint32]: ...

class PatternPretokenizer(Pretokenizer):
    def __init__(self, family: str) -> None: ...

class PretokenizerSequence(Pretokenizer):
    def __init__(self, steps: Sequence[Pretokenizer]) -> None: ...

class CallbackPretokenizer(Pretokenizer):
    def __init__(self, find_spans: Callable[[str], Sequence[int]]) -> None: ...

class BpeTrainer:
    def __init__(self, pretokenizer: Pretokenizer) -> None: ...
    def feed(self, texts: Iterable[str], num_threads: int) -> None: ...
    def train(
        self,
        vocab_size: int,
        special_tokens: Sequence[bytes],
        min_frequency: int,
        progress: Callable[[int], None] | None,
    ) -> tuple[list[bytes], NDArray[np.uint32]]: ...

class UnigramRules(enum.Enum):
    sentencepiece = 0
    tokenizers = 1

class Unigram(Model):
    def __init__(
        self,
        vocabulary: Vocabulary,
        scores: NDArray[np.float64],
        matched_ids: NDArray[np.uint32],
        unknown_id: int,
        unknown_score: float,
        byte_ids: Sequence[int],
        rules: UnigramRules,
    ) -> None: ...

class UnigramTrainer:
    def __init__(self, normalizer: Normalizer | None) -> None: ...
    def feed(self, texts: Iterable[str], num_threads: int) -> None: ...
    def train(
        self,
        vocab_size: int,
        num_special_tokens: int,
        character_coverage: float,
        max_piece_length: int,
        num_seeds: int,
        num_sub_iterations: int,
        shrinking_factor: float,
        num_threads: int,
        progress: Callable[[int], None] | None,
    ) -> tuple[list[bytes], NDArray[np.float64]]: ...

class SentencePieceBpe(Model):
    @staticmethod
    def from_scores(
        vocabulary: Vocabulary,
        scores: NDArray[np.float32],
        merged_ids: NDArray[np.uint32],
        unsplit_ids: NDArray[np.uint32],
        unknown_id: int,
        fuse_unknown: bool,
        byte_ids: Sequence[int],
    ) -> SentencePieceBpe: ...
    @staticmethod
    def from_merges(
        vocabulary: Vocabulary,
        merges: NDArray[np.uint32],
        merged_ids: NDArray[np.uint32],
        unknown_id: int,
        fuse_unknown: bool,
        byte_ids: Sequence[int],
    ) -> SentencePieceBpe: ...

class SpieceNormalizer(Normalizer):
    def __init__(
        self,
        charsmap: bytes | None,
        add_dummy_prefix: bool,
        remove_extra_whitespaces: bool,
        escape_whitespaces: bool,
        treat_whitespace_as_suffix: bool,
        kept: Sequence[bytes],
    ) -> None: ...

class Precompiled(Normalizer):
    def __init__(self, charsmap: bytes) -> None: ...

class Prepend(Normalizer):
    def __init__(self, content: str) -> None: ...

class Replace(Normalizer):
    def __init__(self, pattern: str, least: int, content: str) -> None: ...

class Strip(Normalizer):
    def __init__(self, left: bool, right: bool) -> None: ...

class StripRuns(Normalizer):
    def __init__(self, pattern: str, left: bool, right: bool) -> None: ...

class Nmt(Normalizer):
    def __init__(self) -> None: ...

class PrependScheme(enum.Enum):
    always = 0
    first = 1
    never = 2

class Metaspace(Normalizer):
    def __init__(self, replacement: str, scheme: PrependScheme) -> None: ...

class MetaspaceWords(Normalizer):
    def __init__(self, replacement: str) -> None: ...

class DelimiterCutter(Pretokenizer):
    def __init__(self, delimiter: str) -> None: ...

class WhitespaceSplit(Pretokenizer):
    def __init__(self) -> None: ...

class MetaspaceCuts(enum.Enum):
    nowhere = 0
    before_runs = 1
    before_each = 2

def metaspace_cuts(tokens: Sequence[bytes]) -> MetaspaceCuts: ...

class MetaspaceCutter(Pretokenizer):
    def __init__(self, cuts: MetaspaceCuts) -> None: ...

class WordPiece(Model):
    def __init__(
        self,
        vocabulary: Vocabulary,
        num_tokens: int,
        unk_id: int,
        continuing_prefix: str,
        max_chars_per_word: int,
    ) -> None: ...

class BertNormalizer(Normalizer):
    def __init__(
        self, clean_text: bool, handle_chinese_chars: bool, strip_accents: bool, lowercase: bool
    ) -> None: ...

class BertPretokenizer(Pretokenizer):
    def __init__(self) -> None: ...

class UnicodeNormalizer(Normalizer):
    def __init__(self, form: str) -> None: ...

class Lowercase(Normalizer):
    def __init__(self) -> None: ...

class StripAccents(Normalizer):
    def __init__(self) -> None: ...

class WordPieceTrainer:
    def __init__(
        self, normalizer: Normalizer | None, pretokenizer: Pretokenizer | None
    ) -> None: ...
    def feed(self, texts: Iterable[str], num_threads: int) -> None: ...
    def train(
        self,
        vocab_size: int,
        special_tokens: Sequence[str],
        min_frequency: int,
        limit_alphabet: int | None,
        initial_alphabet: str,
        continuing_prefix: str,
        progress: Callable[[int], None] | None,
    ) -> list[bytes]: ...

def normalized(normalizer: Normalizer, text: str) -> bytes: ...
def pieces(pretokenizer: Pretokenizer, text: str) -> list[bytes]: ...
def char_classes() -> bytes: ...
def byte_alphabet() -> bytes: ...
def write_image(vocabulary: Vocabulary, decoder: Decoder, model: ByteBpe | None) -> bytes: ...
def read_image(
    buffer: bytes | memoryview, has_model: bool
) -> tuple[Vocabulary, Decoder, ByteBpe | None]: ...
def image_checksum(buffer: bytes | memoryview) -> int: ...
