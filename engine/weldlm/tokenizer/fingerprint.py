"""What tells tokenizers apart: a hash of all that their ids depend on."""

import dataclasses
import hashlib
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from weldlm.tokenizer.codec import Codec

__all__ = ["fingerprint"]


def fingerprint(tokenizer: Codec) -> str:
    """SHA-256 of the tokens and of the rules that make ids of text and text of ids."""
    digest = hashlib.sha256()
    for part in _parts(tokenizer.parts):
        digest.update(b"%d:" % len(part) + part)  # so that no two lists of parts look alike
    return digest.hexdigest()


def _parts(value: Any) -> Iterator[bytes]:
    if isinstance(value, bytes):
        yield value
    elif isinstance(value, np.ndarray):
        yield f"{value.dtype}{value.shape}".encode()
        yield value.tobytes()
    elif dataclasses.is_dataclass(value):
        yield type(value).__name__.encode()
        for field in dataclasses.fields(value):
            yield from _parts(getattr(value, field.name))
    elif isinstance(value, Sequence) and not isinstance(value, str):
        yield str(len(value)).encode()
        for item in value:
            yield from _parts(item)
    else:
        yield repr(value).encode()
