"""A trained GPT that sorts six letters of three: every input, and every intermediate value.

The model and the values are those of a minGPT whose maths a page on the web draws.
"""

import base64
import itertools
import json
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from tests.engine.real_data import data_path
from weldlm.heads import CausalLM
from weldlm.inspect import Sample, attention_maps
from weldlm.packing import PackedBatch
from weldlm.weights import load_pretrained

TRANSPOSED = ("c_attn.weight", "c_proj.weight", "c_fc.weight")


def tensor(stored: dict[str, Any]) -> Tensor:
    data = np.frombuffer(base64.b64decode(stored["data"]), dtype=np.float32)
    return torch.tensor(data).view(stored["shape"])


@pytest.fixture(scope="module", name="model")
def sorting_model(tmp_path_factory: pytest.TempPathFactory) -> CausalLM:
    """Written as a folder of GPT-2, whose matrices stand the other way round."""
    stored = json.loads(data_path("models/gpt-nano-sort/model.json").read_text())
    theirs, folder = stored.pop("config"), tmp_path_factory.mktemp("sort")
    weights = {name: tensor(value) for name, value in stored.items()}
    config = {
        "model_type": "gpt2",
        "n_positions": theirs["block_size"],
        "tie_word_embeddings": False,
        **{name: theirs[name] for name in ("vocab_size", "n_layer", "n_head", "n_embd")},
    }
    (folder / "config.json").write_text(json.dumps(config))
    save_file(
        {
            name: (x.t() if name.endswith(TRANSPOSED) else x).contiguous()
            for name, x in weights.items()
        },
        folder / "model.safetensors",
    )
    return load_pretrained(folder).eval()


@pytest.fixture(scope="module", name="expected")
def dumped_values() -> dict[str, Tensor]:
    stored = json.loads(data_path("models/gpt-nano-sort/partials.json").read_text())
    stored.pop("config")
    return {name: tensor(value) for name, value in stored.items()}


def completed(model: CausalLM, letters: Tensor) -> Tensor:
    """Six more letters behind each row."""
    for _ in range(6):
        batch = PackedBatch.from_sequences(list(letters))
        letters = torch.cat(
            (letters, model.next_token_logits(batch).argmax(dim=1, keepdim=True)), 1
        )
    return letters


def test_all_729_inputs_are_sorted(model: CausalLM) -> None:
    inputs = torch.tensor(list(itertools.product(range(3), repeat=6)))

    with torch.inference_mode():
        outputs = completed(model, inputs)[:, 6:]

    assert torch.equal(outputs, inputs.sort(dim=1).values)
    assert len(inputs) == 729


@pytest.fixture(scope="module", name="found")
def our_values(model: CausalLM, expected: dict[str, Tensor]) -> dict[str, Tensor]:
    """What modules take in and give out, packed."""
    values: dict[str, Any] = {}

    def keep(module: Any, given: str | None = None, result: str | None = None) -> None:
        def hook(_: Any, arguments: Any, output: Any) -> None:
            values.update({given: arguments[0]} if given else {})
            values.update({result: output} if result else {})

        module.register_forward_hook(hook)

    blocks = model.transformer.blocks
    block: Any = blocks[0]
    keep(model.transformer.embedding.tokens, result="tok_emb")
    keep(model.transformer.embedding.positions, result="pos_emb")
    keep(model.transformer.embedding, result="x")
    keep(block.attention_norm, result="ln1")
    keep(block.attention.qkv, result="qkv")
    keep(block.attention.out, "y", "yProj")
    keep(block.mlp.up, "ln2", "fc")
    keep(block.mlp.down, "gelu", "mlp")
    for number, each in enumerate(blocks):
        keep(each, result=f"block{number}")
    keep(model.transformer, result="ln_f")
    with torch.inference_mode():
        logits = model.logits(PackedBatch.from_sequences(list(expected["idx"].long())))
    values["attnResid"] = values["block0"][0]
    for number in range(len(blocks)):
        stream, update = values[f"block{number}"]
        values[f"block{number}"] = stream + update
    q, k, v = values["qkv"].split(48, dim=1)
    heads = {"q": q, "k": k, "v": v}
    values |= {name: x.view(3, 11, 3, 16).transpose(1, 2) for name, x in heads.items()}
    return values | {"lm_head": logits, "probs": logits.softmax(dim=1)}


@pytest.mark.parametrize(
    "name",
    [
        *("tok_emb", "pos_emb", "x", "ln1", "qkv", "q", "k", "v", "y", "yProj", "attnResid"),
        *("ln2", "fc", "gelu", "mlp", "block0", "block1", "block2", "ln_f", "lm_head", "probs"),
    ],
)
def test_intermediate_values_are_those_of_the_dump(
    name: str, found: dict[str, Tensor], expected: dict[str, Tensor]
) -> None:
    ours = found[name].reshape(-1, *expected[name].shape[1:])[: len(expected[name])]

    torch.testing.assert_close(ours, expected[name], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("row", range(3))
def test_attention_maps_of_the_first_layer_are_those_of_the_dump(
    row: int, model: CausalLM, expected: dict[str, Tensor]
) -> None:
    maps = attention_maps(model, Sample(expected["idx"][row].long()))["self"]

    torch.testing.assert_close(maps[0], expected["attSm"][row], rtol=1e-5, atol=1e-6)
