"""Every field of config.json that decides the maths is checked by name."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.tiny_models import tiny_model
from weldlm.packing import PackedBatch
from weldlm.weights import load_config, load_pretrained, save_pretrained
from weldlm.weights.config_fields import check_fields

transformers = pytest.importorskip("transformers")

WRONG: dict[str, list[Any]] = {
    "n_head": [0, -1, 1.5, "4", True, None, [], 10**30],
    "hidden_size": [0, -64, 64.0, "64", False, None, {}, 2**31],
    "num_hidden_layers": [0, -1, 2.0, "2", True, None, 10**9],
    "num_key_value_heads": [0, -1, 1.0, "2", True, 10**30],
    "head_dim": [0, 2.5, "x", True],
    "rope_theta": [0, -1.0, math.nan, math.inf, "1e4", True, None],
    "rms_norm_eps": [0.0, -1e-5, math.nan, math.inf, "1e-5", None],
    "attn_logit_softcapping": [0, -50.0, math.nan, "50", True, []],
    "tie_word_embeddings": [0, 1, "true", None, []],
    "scale_embedding": ["yes", 1, None],
    "hidden_act": [None, 0, ["gelu"], {}],
    "bos_token_id": [-1, 1.0, "<s>", True, [1]],
    "eos_token_id": [-1, "</s>", [1, "x"], [True], {}],
    "pad_token_id": [-2, "<pad>", 0.5],
    "rope_parameters": [[], "linear", 3],
    "layer_types": ["full_attention", 3, [1]],
    "id2label": [["a"], "a"],
}
RIGHT: dict[str, list[Any]] = {
    "n_head": [1, 12, 2**31 - 1],
    "num_hidden_layers": [1, 10_000],
    "num_key_value_heads": [None, 8],
    "rope_theta": [1, 1e6, 500_000],
    "attn_logit_softcapping": [None, 50.0, 30],
    "bos_token_id": [None, 0, 128_000],
    "eos_token_id": [None, 0, [1, 2], []],
    "pad_token_id": [None, -1, 0],
    "rope_parameters": [None, {}, {"rope_type": "default"}],
    "layer_types": [None, [], ["full_attention"]],
}


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in WRONG.items() for value in values]
)
def test_a_wrong_value_is_refused_by_the_name_of_its_field(name: str, value: Any) -> None:
    with pytest.raises(
        ValueError, match=rf"^the field {name} is [^\n]*; expected [^\n]*; mend it$"
    ):
        check_fields({"vocab_size": 100, name: value})


@pytest.mark.parametrize(
    ("name", "value"), [(name, value) for name, values in RIGHT.items() for value in values]
)
def test_a_value_that_models_have_passes(name: str, value: Any) -> None:
    check_fields({"vocab_size": 100, name: value})


def test_fields_that_decide_nothing_may_hold_anything() -> None:
    check_fields({"torch_dtype": 3, "architectures": None, "attn_pdrop": "x", "_name": []})


@pytest.fixture(name="folder")
def saved_model(tmp_path: Path) -> Path:
    save_pretrained(tiny_model("llama-tiny"), tmp_path)
    return tmp_path


def rewrite(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {"num_attention_heads": 0},
        {"num_attention_heads": "4"},
        {"hidden_size": True},
        {"num_hidden_layers": 10**12},
        {"vocab_size": -1},
        {"rope_theta": math.inf},
        {"model_type": []},
        {"model_type": None},
        {"hidden_act": "mish"},
        {"id2label": {"a": "b"}},
    ],
    ids=str,
)
def test_a_folder_with_a_wrong_field_is_refused_in_one_line(
    folder: Path, changes: dict[str, Any]
) -> None:
    rewrite(folder, **changes)

    with pytest.raises(ValueError, match=r"^[^\n]*config\.json[^\n]*$"):
        load_config(folder)


def test_a_context_beyond_all_memory_is_refused(folder: Path) -> None:
    rewrite(folder, max_position_embeddings=2**31 - 1, head_dim=2**20)

    with pytest.raises(ValueError, match="positions of a context_length of 2,147,483,647 takes at"):
        load_pretrained(folder)


def test_roberta_without_a_padding_id_is_refused_by_name(folder: Path) -> None:
    rewrite(folder, **(transformers.RobertaConfig().to_dict() | {"pad_token_id": None}))

    with pytest.raises(ValueError, match=r"the field pad_token_id is None; expected an id"):
        load_config(folder)


def test_ids_that_the_model_does_not_know_are_ignored_aloud(
    folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    rewrite(folder, bos_token_id=97, eos_token_id=[1_000, 96, 5])

    config = load_config(folder)

    assert (config.bos_id, config.eos_id, config.more_eos_ids) == (None, 96, (5,))
    assert "bos_token_id 97 is ignored: the model has a vocab_size of 97" in caplog.text
    assert "eos_token_id 1000 is ignored" in caplog.text


def test_logits_with_unknown_ids_are_those_of_transformers(folder: Path) -> None:
    rewrite(folder, bos_token_id=1_000, eos_token_id=2_000)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(folder).eval()

    with torch.no_grad():
        logits = load_pretrained(folder).logits(PackedBatch.from_sequences([[5, 6, 7]]))

        torch.testing.assert_close(logits, theirs(torch.tensor([[5, 6, 7]])).logits[0])


def test_start_of_a_decoder_beyond_the_vocabulary_is_refused(folder: Path) -> None:
    fields = transformers.T5Config(vocab_size=97, decoder_start_token_id=97).to_dict()
    rewrite(folder, **fields)

    with pytest.raises(ValueError, match="decoder_start_id is 97; expected an id below vocab_size"):
        load_config(folder)
