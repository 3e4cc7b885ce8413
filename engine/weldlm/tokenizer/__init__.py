"""Text to ids and back, exact with the tokenizers library, with its own trainer."""

from weldlm.tokenizer.decode_stream import DecodeStream
from weldlm.tokenizer.parts import AddedToken, TokenizerParts
from weldlm.tokenizer.ragged import RaggedIds
from weldlm.tokenizer.tokenizer import LocatedIds, Tokenizer

__all__ = ["AddedToken", "DecodeStream", "LocatedIds", "RaggedIds", "Tokenizer", "TokenizerParts"]
