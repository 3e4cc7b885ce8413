"""What special tokens are for, told by their usual names.

Vocabularies without a configuration do not say it; the names are those that transformers gives the
tokens of the models it knows.
"""

from collections.abc import Collection, Iterable

from weldlm.tokenizer.parts import TokenizerParts
from weldlm.tokenizer.sentencepiece import SpieceDecoder

__all__ = ["roles_of_names", "usual_roles"]

_ROLES = {
    "[UNK]": "unk_token",
    "[PAD]": "pad_token",
    "[CLS]": "cls_token",
    "[SEP]": "sep_token",
    "[MASK]": "mask_token",
    "[BOS]": "bos_token",
    "[EOS]": "eos_token",
    "<unk>": "unk_token",
    "<pad>": "pad_token",
    "<cls>": "cls_token",
    "<sep>": "sep_token",
    "<mask>": "mask_token",
    "<s>": "bos_token",
    "</s>": "eos_token",
    "<bos>": "bos_token",
    "<eos>": "eos_token",
}


def roles_of_names(names: Iterable[str]) -> dict[str, str]:
    """The first of the names that usually has a role, for each role that one has."""
    roles: dict[str, str] = {}
    for name in names:
        if name in _ROLES:
            roles.setdefault(_ROLES[name], name)
    return roles


def usual_roles(parts: TokenizerParts, said: Collection[str]) -> dict[str, str]:
    """The roles that special tokens of a tokenizer have by their names, but those that are `said`:
    a configuration knows better, also where it says that there is no such token."""
    names = [token.content for token in parts.added_tokens if token.is_special]
    if isinstance(parts.decoder, SpieceDecoder):  # the unknown piece is no added token
        names.append(parts.tokens[parts.decoder.unknown_id].decode())
    roles = roles_of_names(names)
    return {role: name for role, name in roles.items() if role not in said}
