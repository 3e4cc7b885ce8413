"""tokenizer.json: the vocabulary and the added tokens."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from weldlm.tokenizer.json_fields import ANY, Understood, brief, checked
from weldlm.tokenizer.parts import AddedToken, Model

__all__ = [
    "NamedModel",
    "added_bytes",
    "most_id",
    "names_by_id",
    "read_added_tokens",
    "read_vocab",
    "spell_tokens",
    "write_added_token",
    "write_vocab",
]

_MAX_GAP = 1024  # ids that stand for nothing, beyond as many as there are tokens

_ADDED_TOKEN: Understood = {
    "id": (ANY,),
    "content": (ANY,),
    "single_word": (True, False),
    "lstrip": (True, False),
    "rstrip": (True, False),
    "normalized": (True, False),
    "special": (True, False),
}


@dataclass(frozen=True, slots=True)
class NamedModel:
    """A model with the names of its tokens as the file spells them, by id."""

    names: list[str]
    model: Model
    spell: Callable[[str, bool], bytes]  # the bytes of a name, and of one that is an added token


def most_id(num_tokens: int) -> int:
    """The largest id in a vocabulary of so many tokens: a damaged one must not fill the memory."""
    return 2 * num_tokens + _MAX_GAP


def read_vocab(vocab: object) -> dict[str, int]:
    """Ids of the tokens, in the order of the ids. Some ids may stand for nothing."""
    if not isinstance(vocab, dict):
        raise ValueError(f"vocab is {brief(vocab)}, expected an object of ids")
    most = most_id(len(vocab))
    names: dict[int, str] = {}
    for name, token_id in vocab.items():
        if type(token_id) is not int or not 0 <= token_id <= most:
            raise ValueError(
                f"vocab gives the token {name!r} the id {brief(token_id)}, expected 0 to {most} "
                f"in a vocabulary of {len(vocab)} tokens"
            )
        if token_id in names:
            raise ValueError(f"vocab gives the id {token_id} to {names[token_id]!r} and {name!r}")
        names[token_id] = name
    return {names[token_id]: token_id for token_id in sorted(names)}


def write_vocab(names: Sequence[str]) -> dict[str, int]:
    """The ids of names, of which an empty one stands for nothing.

    Raises:
        ValueError: `read_vocab` would refuse them.
    """
    vocab = {name: token_id for token_id, name in enumerate(names) if name}
    most = most_id(len(vocab))
    last = max(vocab.values(), default=0)
    if last > most:
        raise ValueError(
            f"token {names[last]!r} has the id {last} in a vocabulary of {len(vocab)} tokens; "
            f"tokenizer.json is written for ids up to {most}; give it a lower one"
        )
    return vocab


def names_by_id(ids: Mapping[str, int]) -> list[str]:
    """The name of each id, empty where it stands for nothing."""
    names = [""] * (max(ids.values(), default=-1) + 1)
    for name, token_id in ids.items():
        names[token_id] = name
    return names


def read_added_tokens(rows: object, names: list[str]) -> tuple[AddedToken, ...]:
    """The tokens, with the ids that the tokenizers library gives them: it ignores those written."""
    if rows is None:
        return ()
    if not isinstance(rows, list):
        raise ValueError(f"added_tokens is {brief(rows)}, expected a list")
    ids = {name: token_id for token_id, name in enumerate(names)}
    tokens: list[AddedToken] = []
    next_id = len(names)
    for row in rows:
        fields = checked("added_tokens", row, _ADDED_TOKEN)
        content, token_id = fields["content"], fields["id"]
        if type(content) is not str or type(token_id) is not int:
            raise ValueError(
                f"added token {brief(content)} has the id {brief(token_id)}, expected a "
                "string with an integer"
            )
        expected = ids.get(content, next_id)
        if token_id != expected:
            raise ValueError(
                f"added token {content!r} has the id {token_id}, expected {expected}: "
                + ("its id in vocab" if content in ids else "the next one after vocab")
            )
        next_id += content not in ids
        tokens.append(
            AddedToken(
                content,
                token_id,
                is_special=fields["special"],
                is_normalized=fields["normalized"],
                is_single_word=fields["single_word"],
                strips_left=fields["lstrip"],
                strips_right=fields["rstrip"],
            )
        )
    return tuple(tokens)


def write_added_token(token: AddedToken) -> dict[str, object]:
    """A row of the section added_tokens."""
    return {
        "id": token.id,
        "content": token.content,
        "single_word": token.is_single_word,
        "lstrip": token.strips_left,
        "rstrip": token.strips_right,
        "normalized": token.is_normalized,
        "special": token.is_special,
    }


def spell_tokens(named: NamedModel, added_tokens: tuple[AddedToken, ...]) -> list[bytes]:
    """The bytes of every id, those of the added tokens behind the vocabulary."""
    contents = {token.content for token in added_tokens}
    known = set(named.names)
    names = named.names + [token.content for token in added_tokens if token.content not in known]
    return [named.spell(name, name in contents) for name in names]


def added_bytes(content: str) -> bytes:
    """The bytes of an added token, which stands for itself."""
    try:
        return content.encode("utf-8")
    except UnicodeEncodeError as error:
        raise ValueError(f"added token {content!r} holds a lone surrogate") from error
