"""Text to ids and back, exact with the tokenizers library, with its own trainer."""

from weldlm.tokenizer.batch_encoding import BatchEncoding
from weldlm.tokenizer.decode_stream import DecodeStream
from weldlm.tokenizer.encode_stream import EncodeStream
from weldlm.tokenizer.located import LocatedIds
from weldlm.tokenizer.parts import AddedToken, TokenizerParts
from weldlm.tokenizer.ragged import RaggedIds
from weldlm.tokenizer.tokenizer import Tokenizer
from weldlm.tokenizer.tokenizer_config import TokenizerConfig
from weldlm.tokenizer.training import BpeSettings
from weldlm.tokenizer.unigram_training import UnigramSettings
from weldlm.tokenizer.wordpiece_training import WordPieceSettings

__all__ = [
    "AddedToken",
    "BatchEncoding",
    "BpeSettings",
    "DecodeStream",
    "EncodeStream",
    "LocatedIds",
    "RaggedIds",
    "Tokenizer",
    "TokenizerConfig",
    "TokenizerParts",
    "UnigramSettings",
    "WordPieceSettings",
]
