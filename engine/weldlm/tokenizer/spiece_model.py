"""Reads the .model files of SentencePiece: a ModelProto message, read without protobuf.

What would change the ids or the decoded text in a way that this package does not do is refused by
name. The oracle is the sentencepiece package.
"""

from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from weldlm.tokenizer.parts import AddedToken, Template, TokenizerParts
from weldlm.tokenizer.protobuf_wire import Field, Kind, Message, read_fields
from weldlm.tokenizer.sentencepiece import (
    MetaspaceCutter,
    ScoredBpeModel,
    SpieceDecoder,
    SpieceNormalizer,
    UnigramModel,
    byte_of_piece,
)

__all__ = [
    "PieceKind",
    "SpieceModel",
    "check_kinds",
    "parse_spiece_model",
    "parts_of_spiece_model",
    "read_spiece_model",
]


class PieceKind(IntEnum):
    """The types of a piece."""

    NORMAL = 1
    UNKNOWN = 2
    CONTROL = 3
    USER_DEFINED = 4
    UNUSED = 5
    BYTE = 6


class _ModelType(IntEnum):
    UNIGRAM = 1
    BPE = 2
    WORD = 3
    CHAR = 4


_MAX_PIECE_BYTES = 8000  # sentencepiece refuses longer ones

_MODEL = Message(
    "ModelProto",
    {
        1: ("pieces", Kind.BYTES),
        2: ("trainer_spec", Kind.BYTES),
        3: ("normalizer_spec", Kind.BYTES),
        4: ("self_test_data", Kind.BYTES),  # for whoever wrote the file
        5: ("denormalizer_spec", Kind.BYTES),
    },
)
_PIECE = Message(
    "SentencePiece",
    {1: ("piece", Kind.TEXT), 2: ("score", Kind.FLOAT), 3: ("type", Kind.INTEGER)},
)
_NORMALIZER = Message(
    "NormalizerSpec",
    {
        1: ("name", Kind.TEXT),
        2: ("precompiled_charsmap", Kind.BYTES),
        3: ("add_dummy_prefix", Kind.INTEGER),
        4: ("remove_extra_whitespaces", Kind.INTEGER),
        5: ("escape_whitespaces", Kind.INTEGER),
        6: ("normalization_rule_tsv", Kind.TEXT),
    },
)
_TRAINER = Message(
    "TrainerSpec",
    {
        1: ("input", Kind.TEXT),
        2: ("model_prefix", Kind.TEXT),
        3: ("model_type", Kind.INTEGER),
        4: ("vocab_size", Kind.INTEGER),
        5: ("accept_language", Kind.TEXT),
        6: ("self_test_sample_size", Kind.INTEGER),
        7: ("input_format", Kind.TEXT),
        10: ("character_coverage", Kind.FLOAT),
        11: ("input_sentence_size", Kind.INTEGER),
        12: ("mining_sentence_size", Kind.INTEGER),
        13: ("training_sentence_size", Kind.INTEGER),
        14: ("seed_sentencepiece_size", Kind.INTEGER),
        15: ("shrinking_factor", Kind.FLOAT),
        16: ("num_threads", Kind.INTEGER),
        17: ("num_sub_iterations", Kind.INTEGER),
        18: ("max_sentence_length", Kind.INTEGER),
        19: ("shuffle_input_sentence", Kind.INTEGER),
        20: ("max_sentencepiece_length", Kind.INTEGER),
        21: ("split_by_unicode_script", Kind.INTEGER),
        22: ("split_by_whitespace", Kind.INTEGER),
        23: ("split_by_number", Kind.INTEGER),
        24: ("treat_whitespace_as_suffix", Kind.INTEGER),
        25: ("split_digits", Kind.INTEGER),
        26: ("allow_whitespace_only_pieces", Kind.INTEGER),
        30: ("control_symbols", Kind.TEXT),
        31: ("user_defined_symbols", Kind.TEXT),
        32: ("vocabulary_output_piece_score", Kind.INTEGER),
        33: ("hard_vocab_limit", Kind.INTEGER),
        34: ("use_all_vocab", Kind.INTEGER),
        35: ("byte_fallback", Kind.INTEGER),
        36: ("required_chars", Kind.TEXT),
        40: ("unk_id", Kind.INTEGER),
        41: ("bos_id", Kind.INTEGER),
        42: ("eos_id", Kind.INTEGER),
        43: ("pad_id", Kind.INTEGER),
        44: ("unk_surface", Kind.TEXT),
        45: ("unk_piece", Kind.TEXT),
        46: ("bos_piece", Kind.TEXT),
        47: ("eos_piece", Kind.TEXT),
        48: ("pad_piece", Kind.TEXT),
        49: ("train_extremely_large_corpus", Kind.INTEGER),
        50: ("enable_differential_privacy", Kind.INTEGER),
        51: ("differential_privacy_noise_level", Kind.FLOAT),
        52: ("differential_privacy_clipping_threshold", Kind.INTEGER),
        53: ("pretokenization_delimiter", Kind.TEXT),
        54: ("seed_sentencepieces_file", Kind.TEXT),
        55: ("auto_character_coverage", Kind.INTEGER),
    },
)


@dataclass(frozen=True, slots=True, eq=False, kw_only=True)
class SpieceModel:
    """What a file says, as far as it matters for encoding and decoding."""

    pieces: list[str]
    scores: NDArray[np.float32]
    kinds: NDArray[np.uint8]
    model_type: int = _ModelType.UNIGRAM
    byte_fallback: bool = False
    unk_surface: str = " \u2047 "
    charsmap: bytes = b""
    add_dummy_prefix: bool = True
    remove_extra_whitespaces: bool = True
    escape_whitespaces: bool = True
    treat_whitespace_as_suffix: bool = False

    def ids(self, *kinds: PieceKind) -> NDArray[np.uint32]:
        """Ids of the pieces of these kinds, ascending."""
        return np.flatnonzero(np.isin(self.kinds, kinds)).astype(np.uint32)


def read_spiece_model(path: Path) -> TokenizerParts:
    """Reads the file.

    Raises:
        ValueError: the file is damaged or holds what this package does not do.
    """
    return parts_of_spiece_model(path.read_bytes())


def parts_of_spiece_model(data: bytes) -> TokenizerParts:
    """The parts that the contents of a file describe; raises as `read_spiece_model`."""
    return spiece_parts(parse_spiece_model(data))


class _Reader:
    """The contents of a file, field by field; later fields replace earlier ones."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.pieces: dict[str, int] = {}
        self.scores: list[float] = []
        self.kinds: list[int] = []
        self.trainer: dict[str, Field] = {}
        self.normalizer: dict[str, Field] = {}
        for field in read_fields(data, 0, len(data), _MODEL):
            match field.name:
                case "pieces":
                    self._read_piece(field)
                case "trainer_spec":
                    self.trainer |= self._fields(field, _TRAINER)
                case "normalizer_spec":
                    self.normalizer |= self._fields(field, _NORMALIZER)
                case "denormalizer_spec":
                    self._refuse_rules(field)

    def text(self, field: Field) -> str:
        try:
            return self._data[field.begin : field.end].decode("utf-8")
        except UnicodeDecodeError as error:
            at = field.begin + error.start
            raise ValueError(f"{field.name} has invalid UTF-8 at byte {at}") from error

    def bytes(self, field: Field) -> bytes:
        return self._data[field.begin : field.end]

    def _fields(self, parent: Field, message: Message) -> dict[str, Field]:
        fields = read_fields(self._data, parent.begin, parent.end, message)
        return {field.name: field for field in fields}

    def _read_piece(self, parent: Field) -> None:
        piece, score, kind = "", 0.0, int(PieceKind.NORMAL)
        for field in read_fields(self._data, parent.begin, parent.end, _PIECE):
            if field.name == "piece":
                piece = self.text(field)
            elif field.name == "score":
                score = field.number
            else:
                kind = field.integer
        position = parent.position
        if not piece or "\0" in piece:
            raise ValueError(
                f"piece {len(self.pieces)} at byte {position} is {piece!r}, expected at least one "
                "character and no U+0000"
            )
        if len(piece.encode()) >= _MAX_PIECE_BYTES:
            raise ValueError(
                f"piece {len(self.pieces)} at byte {position} has {len(piece)} characters, "
                f"expected fewer than {_MAX_PIECE_BYTES} bytes"
            )
        if piece in self.pieces:
            raise ValueError(
                f"piece {len(self.pieces)} at byte {position} is {piece!r}, which piece "
                f"{self.pieces[piece]} is already"
            )
        if not np.isfinite(score):
            raise ValueError(f"piece {piece!r} at byte {position} has the score {score}")
        if kind not in set(PieceKind):
            raise ValueError(
                f"piece {piece!r} at byte {position} has the type {kind}, expected 1 to 6"
            )
        self.pieces[piece] = len(self.pieces)
        self.scores.append(score)
        self.kinds.append(kind)

    def _refuse_rules(self, parent: Field) -> None:
        field = self._fields(parent, _NORMALIZER).get("precompiled_charsmap")
        if field is not None and field.end > field.begin:
            raise ValueError(
                f"denormalizer_spec at byte {parent.position} has rules, which are not supported"
            )


def parse_spiece_model(data: bytes) -> SpieceModel:
    """Reads the contents of a file.

    Raises:
        ValueError: the data are damaged; names the byte.
    """
    reader = _Reader(data)
    trainer, normalizer = reader.trainer, reader.normalizer
    for name in ("unk_id", "bos_id", "eos_id", "pad_id"):
        field = trainer.get(name)
        if field is not None and not -1 <= field.integer < len(reader.pieces):
            raise ValueError(
                f"TrainerSpec.{name} at byte {field.position} is {field.integer}, expected -1 to "
                f"{len(reader.pieces) - 1}: there are {len(reader.pieces)} pieces"
            )
    surface, rules = trainer.get("unk_surface"), normalizer.get("precompiled_charsmap")

    def flag(fields: dict[str, Field], name: str, default: bool) -> bool:
        return fields[name].integer != 0 if name in fields else default

    model = SpieceModel(
        pieces=list(reader.pieces),
        scores=np.array(reader.scores, dtype=np.float32),
        kinds=np.array(reader.kinds, dtype=np.uint8),
        model_type=trainer["model_type"].integer if "model_type" in trainer else 1,
        byte_fallback=flag(trainer, "byte_fallback", False),
        unk_surface=" \u2047 " if surface is None else reader.text(surface),
        charsmap=b"" if rules is None else reader.bytes(rules),
        add_dummy_prefix=flag(normalizer, "add_dummy_prefix", True),
        remove_extra_whitespaces=flag(normalizer, "remove_extra_whitespaces", True),
        escape_whitespaces=flag(normalizer, "escape_whitespaces", True),
        treat_whitespace_as_suffix=flag(trainer, "treat_whitespace_as_suffix", False),
    )
    check_kinds(model)
    return model


def check_kinds(model: SpieceModel) -> None:
    """Raises ValueError where the types of the pieces do not fit together."""
    unknown_ids = model.ids(PieceKind.UNKNOWN)
    if len(unknown_ids) != 1:
        raise ValueError(
            f"{len(unknown_ids)} of {len(model.pieces)} pieces have the type unknown, expected one"
        )
    if model.model_type not in (_ModelType.UNIGRAM, _ModelType.BPE):
        known = {kind.value: kind.name for kind in _ModelType}
        raise ValueError(
            f"TrainerSpec.model_type is {model.model_type} ({known.get(model.model_type, '?')}), "
            "which is not supported; expected 1 (UNIGRAM) or 2 (BPE)"
        )
    names = [model.pieces[i] for i in model.ids(PieceKind.BYTE)]
    bytes_of = {byte_of_piece(name) for name in names}
    if model.byte_fallback != bool(names) or (names and bytes_of != set(range(256))):
        raise ValueError(
            f"byte_fallback is {model.byte_fallback} and there are {len(names)} pieces of bytes; "
            "expected <0x00> to <0xFF> with byte_fallback and none without"
        )
    if model.model_type == _ModelType.BPE and len(model.ids(PieceKind.UNUSED)):
        raise ValueError("BPE with pieces of the type unused is not supported")


def _byte_ids(model: SpieceModel) -> tuple[int, ...]:
    ids = model.ids(PieceKind.BYTE).tolist()
    return tuple(sorted(ids, key=lambda i: byte_of_piece(model.pieces[i]) or 0))


def spiece_parts(model: SpieceModel, *, template: Template = Template()) -> TokenizerParts:  # noqa: B008 (frozen)
    """The tokenizer that a model describes, with special tokens around texts."""
    kept = model.ids(PieceKind.USER_DEFINED)
    is_bpe = model.model_type == _ModelType.BPE
    control_ids = model.ids(PieceKind.CONTROL).tolist()
    return TokenizerParts(
        tokens=[piece.encode() for piece in model.pieces],
        model=_bpe(model) if is_bpe else _unigram(model),
        added_tokens=tuple(AddedToken(model.pieces[i], i) for i in control_ids),
        normalizers=(
            SpieceNormalizer(
                charsmap=model.charsmap,
                add_dummy_prefix=model.add_dummy_prefix,
                remove_extra_whitespaces=model.remove_extra_whitespaces,
                escape_whitespaces=model.escape_whitespaces,
                treat_whitespace_as_suffix=model.treat_whitespace_as_suffix,
                kept=tuple(model.pieces[i] for i in kept),
            ),
        ),
        pretokenizer=_cutter(model) if is_bpe else None,
        template=template,
        decoder=SpieceDecoder(
            unknown_id=int(model.ids(PieceKind.UNKNOWN)[0]),
            unknown_text=model.unk_surface,
            control_ids=tuple(control_ids),
            byte_ids=_byte_ids(model),
            strips_first_space=model.add_dummy_prefix or model.remove_extra_whitespaces,
            strips_every_space=model.remove_extra_whitespaces,
        ),
    )


def _unigram(model: SpieceModel) -> UnigramModel:
    normal = model.scores[model.kinds == PieceKind.NORMAL]
    min_score = np.min(normal, initial=np.finfo(np.float32).max)
    scores = model.scores.astype(np.float64)
    for i in model.ids(PieceKind.USER_DEFINED):
        # so that it wins against what it could be split into
        scores[i] = np.float32(0.1 * (len(model.pieces[i].encode()) - 1))
    return UnigramModel(
        scores=scores,
        matched_ids=model.ids(PieceKind.NORMAL, PieceKind.USER_DEFINED),
        unknown_id=int(model.ids(PieceKind.UNKNOWN)[0]),
        unknown_score=float(min_score - np.float32(10)),
        byte_ids=_byte_ids(model),
        rules="sentencepiece",
    )


def _bpe(model: SpieceModel) -> ScoredBpeModel:
    return ScoredBpeModel(
        scores=model.scores,
        merged_ids=model.ids(PieceKind.NORMAL),
        unsplit_ids=model.ids(PieceKind.USER_DEFINED),
        unknown_id=int(model.ids(PieceKind.UNKNOWN)[0]),
        byte_ids=_byte_ids(model),
    )


def _cutter(model: SpieceModel) -> MetaspaceCutter | None:
    ids = model.ids(PieceKind.NORMAL, PieceKind.USER_DEFINED)
    pieces = [model.pieces[i] for i in ids]
    if not model.byte_fallback and "\u2581" not in pieces:
        return None  # unknown characters in a row are one token
    return MetaspaceCutter.of(pieces)
