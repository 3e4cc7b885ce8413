"""Text to ids and back: byte-level BPE, exact with the tokenizers library, with its own trainer."""

from weldlm.tokenizer.decode_stream import DecodeStream
from weldlm.tokenizer.parts import AddedToken, BpeParts
from weldlm.tokenizer.tokenizer import RaggedIds, Tokenizer

__all__ = ["AddedToken", "BpeParts", "DecodeStream", "RaggedIds", "Tokenizer"]
