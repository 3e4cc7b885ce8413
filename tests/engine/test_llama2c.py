"""Models of llama2.c: equal to transformers, and damaged files refused by name."""

import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.engine.real_data import data_path
from tests.engine.their_models import SIZES, packed_logits, ragged_ids, their_model
from weldlm.cli import main
from weldlm.tokenizer import Tokenizer
from weldlm.weights import load_pretrained, open_model

transformers = pytest.importorskip("transformers")

# what llama2.c's test_all.py expects of the first 200 tokens
GOLDEN = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. "
    "One day, she saw a big, red ball. She wanted to play with it, but it was too high.\n"
    "Lily's mom said, \"Lily, let's go to the park.\" Lily was sad and didn't know what to do. She "
    'said, "I want to play with your ball, but I can\'t find it."\n'
    "Lily was sad and didn't know what to do. She said, \"I'm sorry, Lily. I didn't know what to "
    "do.\"\nLily didn't want to help her mom, so she"
)
FIELDS = ("dim", "hidden_dim", "n_layers", "n_heads", "n_kv_heads", "vocab_size", "max_seq_len")


def theirs_of(**changes: Any) -> Any:
    fields = {"num_key_value_heads": 2, "rms_norm_eps": 1e-5, "tie_word_embeddings": True}
    config = transformers.AutoConfig.for_model("llama", **{**SIZES, **fields, **changes})
    return their_model(config, "LlamaForCausalLM")


def paired(weight: Tensor, num_heads: int) -> Tensor:
    """The order of rows that llama2.c's export.py makes of Hugging Face's."""
    return weight.view(num_heads, 2, -1, weight.shape[1]).transpose(1, 2).reshape(weight.shape)


def exported(theirs: Any) -> bytes:
    """The file that llama2.c's export.py writes, version 0."""
    config, state = theirs.config, theirs.state_dict()
    is_tied, width = config.tie_word_embeddings, config.hidden_size // config.num_attention_heads

    def layers(name: str, num_heads: int = 0) -> list[Tensor]:
        found = [state[f"model.layers.{i}.{name}.weight"] for i in range(config.num_hidden_layers)]
        return [paired(weight, num_heads) for weight in found] if num_heads else found

    tensors = [
        state["model.embed_tokens.weight"],
        *layers("input_layernorm"),
        *layers("self_attn.q_proj", config.num_attention_heads),
        *layers("self_attn.k_proj", config.num_key_value_heads),
        *layers("self_attn.v_proj"),
        *layers("self_attn.o_proj"),
        *layers("post_attention_layernorm"),
        *layers("mlp.gate_proj"),
        *layers("mlp.down_proj"),
        *layers("mlp.up_proj"),
        state["model.norm.weight"],
        torch.zeros(config.max_position_embeddings, width),
        *([] if is_tied else [state["lm_head.weight"]]),
    ]
    sizes = (
        config.hidden_size,
        config.intermediate_size,
        config.num_hidden_layers,
        config.num_attention_heads,
        config.num_key_value_heads,
        config.vocab_size if is_tied else -config.vocab_size,
        config.max_position_embeddings,
    )
    return struct.pack("<7i", *sizes) + b"".join(x.contiguous().numpy().tobytes() for x in tensors)


def vocabulary(*more: str) -> bytes:
    """Control tokens, all bytes, and the tokens of a SentencePiece vocabulary."""
    tokens = ["<unk>", "\n<s>\n", "\n</s>\n", *(f"<0x{byte:02X}>" for byte in range(256)), *more]
    records = [
        struct.pack("<fi", -float(place), len(token)) + token.encode()
        for place, token in enumerate(tokens)
    ]
    return struct.pack("<i", 6) + b"".join(records)


@pytest.mark.parametrize("is_tied", [True, False], ids=["tied", "untied"])
def test_logits_equal_transformers(tmp_path: Path, is_tied: bool) -> None:
    theirs, sequences = theirs_of(tie_word_embeddings=is_tied), ragged_ids(5, 17, 1, 31)
    path = tmp_path / "model.bin"
    path.write_bytes(exported(theirs))

    with torch.no_grad():
        logits = packed_logits(load_pretrained(path), sequences)

        expected = torch.cat([theirs(ids.unsqueeze(0)).logits[0] for ids in sequences])
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


def test_a_folder_with_its_vocabulary_is_a_model_path(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    theirs = theirs_of(vocab_size=262, tie_word_embeddings=False)
    (tmp_path / "model.bin").write_bytes(exported(theirs))
    (tmp_path / "tok.bin").write_bytes(vocabulary("a", " a", "b"))

    with pytest.raises(SystemExit) as exit_:
        main(["generate", "--model", str(tmp_path), "--prompt", "a", "--max-tokens", "4"])

    prompt = torch.tensor([[1, 260]])
    ids = theirs.generate(prompt, max_new_tokens=4, do_sample=False, eos_token_id=[1, 2])
    text = Tokenizer.from_pretrained(tmp_path).decode(ids[0, 2:].tolist())
    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"a{text}\n"


def test_stories260k_tells_its_story(capsys: pytest.CaptureFixture[str]) -> None:
    folder = data_path("models/stories260K")
    arguments = ["--prompt", "", "--max-tokens", "200", "--temperature", "0"]

    with pytest.raises(SystemExit) as exit_:
        main(["generate", "--model", str(folder), *arguments])

    assert exit_.value.code == 0
    assert capsys.readouterr().out == f"{GOLDEN}\n"


def changed(data: bytes, field: str, value: int) -> bytes:
    place = 4 * FIELDS.index(field)
    return data[:place] + struct.pack("<i", value) + data[place + 4 :]


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        *((name, -1, f"{name} is -1; expected 1 to ") for name in FIELDS if name != "vocab_size"),
        *((name, 0, f"{name} is 0; expected 1 to ") for name in FIELDS),
        *((name, 2**31 - 1, f"{name} is 2147483647; expected 1 to ") for name in FIELDS),
        ("vocab_size", -(2**31), "vocab_size is 2147483648; expected 1 to "),
        ("n_heads", 5, "dim is 32; expected a multiple of 10"),
        ("n_kv_heads", 3, "n_heads is 4; expected a multiple of 3"),
        ("n_layers", 3, "has 76572 bytes; expected .* from the sizes in its header .*n_layers 3"),
        ("dim", 0x616B3432, "is of a later version of llama2.c's format"),
    ],
)
def test_a_wrong_header_is_refused_by_name(
    tmp_path: Path, field: str, value: int, message: str
) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(changed(exported(theirs_of()), field, value))

    with pytest.raises(ValueError, match=rf"model\.bin:? {message}"):
        open_model(path)


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        (slice(0, 20), "has 20 bytes; expected a header of 28"),
        (slice(0, -4), "has .* bytes; expected .* from the sizes in its header"),
        (slice(0, 0), "has 0 bytes; expected a header of 28"),
    ],
    ids=["header", "weights", "empty"],
)
def test_a_truncated_file_is_refused(tmp_path: Path, cut: slice, message: str) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(exported(theirs_of())[cut])

    with pytest.raises(ValueError, match=rf"model\.bin {message}"):
        open_model(path)


def test_an_oversized_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(exported(theirs_of()) + bytes(4))

    with pytest.raises(ValueError, match=r"has .* bytes; expected .* from the sizes in its header"):
        open_model(path)


def test_several_models_in_a_folder_are_named(tmp_path: Path) -> None:
    for name in ("a.bin", "b.bin"):
        (tmp_path / name).write_bytes(exported(theirs_of()))

    with pytest.raises(ValueError, match=r"holds several models: a\.bin, b\.bin; give the path"):
        open_model(tmp_path)


def test_the_configuration_is_that_of_the_header(tmp_path: Path) -> None:
    theirs = theirs_of(eos_token_id=[2, 1])
    (tmp_path / "model.bin").write_bytes(exported(theirs))
    theirs.save_pretrained(tmp_path / "theirs")

    config = open_model(tmp_path / "model.bin").config

    assert config == open_model(tmp_path / "theirs").config
