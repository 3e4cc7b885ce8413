"""tokenizer.json files with endless nesting and endless numbers: refused in one line, by place."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tokenizers

from tests.engine.tokenizer_files import content
from weldlm.tokenizer import Tokenizer
from weldlm.tokenizer.json_fields import parse_json

NFC = {"type": "NFC"}
BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True}
TEXT = "the thesis e\u0301"


def nested(field: str, inner: object, depth: int) -> object:
    for _ in range(depth):
        inner = {"type": "Sequence", field: [inner]}
    return inner


def listed(depth: int) -> object:
    value: object = 1
    for _ in range(depth):
        value = [value]
    return value


def split(pattern: str) -> dict[str, Any]:
    step = {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}
    last = BYTE_LEVEL | {"add_prefix_space": False, "use_regex": False}
    return {"type": "Sequence", "pretokenizers": [step, last]}


def written(folder: Path, name: str = "json-bpe", **sections: object) -> Path:
    """A file with other sections."""
    path = folder / "tokenizer.json"
    path.write_text(json.dumps(json.loads(content(name)) | sections), encoding="utf-8")
    return path


DEEP: dict[str, tuple[dict[str, object], str]] = {
    "normalizers": (
        {"normalizer": nested("normalizers", NFC, 300)},
        "normalizer has a Sequence within 60 others, expected at most 60 within each other",
    ),
    "one-too-many": (
        {"normalizer": nested("normalizers", NFC, 61)},
        "normalizer has a Sequence within 60 others",
    ),
    "processors": (
        {"post_processor": nested("processors", BYTE_LEVEL, 450)},
        "post_processor has a Sequence within 60 others",
    ),
    "pretokenizers": (
        {"pre_tokenizer": nested("pretokenizers", BYTE_LEVEL, 450)},
        "pre_tokenizer has an object of type 'Sequence' at the end",
    ),
    "decoders": (
        {"decoder": nested("decoders", BYTE_LEVEL, 300)},
        "decoder is the Sequence ",
    ),
    "groups": (
        {"pre_tokenizer": split("(" * 400 + "a" + ")" * 400)},
        "the pattern has a group within 50 others at character 50, which is not supported",
    ),
    "types": ({"normalizer": {"type": listed(400)}}, "normalizer has 'type' = "),
    "values": ({"pre_tokenizer": listed(400)}, "pre_tokenizer is "),
    "padding": ({"padding": {"x": listed(400)}}, "padding has no "),
    "all": ({"normalizer": listed(5000)}, "JSON nested too deeply to be a tokenizer.json"),
}


@pytest.mark.parametrize(("sections", "message"), DEEP.values(), ids=DEEP)
def test_deep_nesting_is_refused_in_one_line(
    sections: dict[str, Any], message: str, tmp_path: Path
) -> None:
    document = json.loads(content("json-bpe"))
    path = tmp_path / "tokenizer.json"
    # json.dumps nests no deeper than the limit of recursion
    name, section = next(iter(sections.items()))
    path.write_text(json.dumps(document | {name: "HERE"}).replace('"HERE"', dumped(section)))

    with pytest.raises(ValueError, match=rf"^{path}: {message}[^\n]*$"):
        Tokenizer.from_file(path)


def dumped(value: object) -> str:
    """JSON of a value that nests in its only list or object."""
    begins, ends = [], []
    while isinstance(value, dict | list):
        if isinstance(value, list) and len(value) != 1:
            break
        if isinstance(value, list):
            begins.append("[")
            ends.append("]")
            (value,) = value
            continue
        *flat, (last, inner) = value.items()
        if not isinstance(inner, dict | list):
            break
        begins.append("{" + "".join(f"{json.dumps(k)}:{json.dumps(v)}," for k, v in flat))
        begins.append(f"{json.dumps(last)}:")
        ends.append("}")
        value = inner
    return "".join(begins) + json.dumps(value) + "".join(reversed(ends))


@pytest.mark.parametrize("depth", [1, 60])
def test_nested_sequences_do_what_they_do_in_tokenizers(depth: int, tmp_path: Path) -> None:
    path = written(
        tmp_path,
        normalizer=nested("normalizers", NFC, depth),
        post_processor=nested("processors", BYTE_LEVEL, depth),
    )
    expected = tokenizers.Tokenizer.from_file(str(path)).encode(TEXT)

    found = Tokenizer.from_file(path).encode_with_offsets(TEXT)

    assert found.ids == expected.ids
    assert [tuple(row) for row in found.offsets.tolist()] == expected.offsets


def test_steps_of_nested_sequences_keep_their_order(tmp_path: Path) -> None:
    replaces = [
        {"type": "Replace", "pattern": {"String": old}, "content": new}
        for old, new in (("a", "b"), ("b", "c"), ("c", "d"), ("d", "e"))
    ]
    inner = {"type": "Sequence", "normalizers": replaces[1:3]}
    steps = {"type": "Sequence", "normalizers": [replaces[0], inner, replaces[3]]}

    found = Tokenizer.from_file(written(tmp_path, normalizer=steps))

    assert found.decode(found.encode_ordinary("abcd")) == "eeee"


DIGITS = "7" * 5000
NUMBERS: dict[str, Callable[[str], str]] = {
    "id": lambda text: text.replace('"added_tokens":[{"id":0', f'"added_tokens":[{{"id":{DIGITS}'),
    "vocab-id": lambda text: text.replace('"vocab":{', f'"vocab":{{"zz":-{DIGITS},'),
    "exponent": lambda text: text.replace('"vocab":{', f'"vocab":{{"zz":1e{DIGITS},'),
    "mantissa": lambda text: text.replace('"vocab":{', f'"vocab":{{"zz":{DIGITS}.5,'),
}


@pytest.mark.parametrize("change", NUMBERS.values(), ids=NUMBERS)
def test_endless_number_is_refused_with_its_place(
    change: Callable[[str], str], tmp_path: Path
) -> None:
    whole = content("json-bpe").decode()
    text = change(whole)
    assert text != whole
    path = tmp_path / "tokenizer.json"
    path.write_text("\n\n" + text)
    message = rf"a number of 5,000 digits at line 3, column {text.index(DIGITS) + 1}; expected"

    with pytest.raises(ValueError, match=rf"^{path}: {message}[^\n]*$"):
        Tokenizer.from_file(path)


def test_digits_of_a_string_are_no_number() -> None:
    data = b'{"a \\" ' + DIGITS.encode() + b'": 1,\n "b": ' + DIGITS.encode() + b"}"

    with pytest.raises(ValueError, match=r"of 5,000 digits at line 2, column 7; expected numbers"):
        parse_json(data)


def test_score_that_is_no_number_is_refused(tmp_path: Path) -> None:
    document = json.loads(content("json-unigram"))
    document["model"]["vocab"][3][1] = True
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document))

    with pytest.raises(ValueError, match=r"piece 3 of vocab is .*, true\], expected \[piece, sco"):
        Tokenizer.from_file(path)


@pytest.mark.parametrize(
    "pattern", ["", "a*+", "a?", "a|", "(?:a{0,3}b*)+", "(?=a)", r"\A", "(?i:k*)", "a{0}|b"]
)
def test_pattern_that_matches_nothing_is_refused_when_it_is_read(
    pattern: str, tmp_path: Path
) -> None:
    path = written(tmp_path, pre_tokenizer=split(pattern))

    with pytest.raises(ValueError, match=rf"^{path}: the pattern '[^\n]*' matches no character at"):
        Tokenizer.from_file(path)


def test_pattern_of_ranks_that_matches_nothing_is_refused_when_it_is_read(tmp_path: Path) -> None:
    path = tmp_path / "x.tiktoken"
    path.write_bytes(content("ranks"))

    with pytest.raises(ValueError, match=rf"^{path}: the pattern '' matches no character at all"):
        Tokenizer.from_file(path, pattern="")
