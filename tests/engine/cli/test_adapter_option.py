"""--adapter: commands answer as PEFT does with the same folder."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from tests.engine.their_models import SIZES, their_model
from tests.engine.tiny_tasks import tiny_tokenizer
from weldlm.adapters import adapter_names, load_adapted, load_adapter
from weldlm.cli import main
from weldlm.heads import CausalLM, SequenceClassifier
from weldlm.packing import PackedBatch
from weldlm.weights import load_pretrained

transformers = pytest.importorskip("transformers")
peft = pytest.importorskip("peft")

TOKENIZER = tiny_tokenizer()
TEXTS = ["the film is great", "dull"]
OF_TOKENIZER = {"vocab_size": TOKENIZER.vocab_size}


def adapted(theirs: Any, folder: Path, targets: list[str], task: str | None) -> Any:
    """Theirs with an adapter that changes much, which lies in `folder` beside the base model."""
    theirs.save_pretrained(folder / "model")
    TOKENIZER.save(folder / "model" / "tokenizer.json")
    return with_adapter(theirs, folder, targets, task)


def with_adapter(theirs: Any, folder: Path, targets: list[str], task: str | None) -> Any:
    config = peft.LoraConfig(r=3, lora_alpha=7, target_modules=targets, task_type=task)
    model = peft.get_peft_model(theirs, config).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name:
                weight.add_(torch.randn_like(weight) * 0.2)
    model.save_pretrained(folder / "adapter")
    return model


def llama(folder: Path) -> Any:
    config = transformers.LlamaConfig(**{**SIZES, **OF_TOKENIZER}, num_key_value_heads=2)
    theirs = their_model(config, "LlamaForCausalLM")
    return adapted(theirs, folder, ["q_proj", "v_proj", "down_proj"], "CAUSAL_LM")


def bert(head: str, **fields: Any) -> Any:
    return their_model(
        transformers.BertConfig(**{**SIZES, **OF_TOKENIZER}, **fields), f"Bert{head}"
    )


def run(folder: Path, name: str, *options: str) -> None:
    paths = ["--model", str(folder / "model"), "--adapter", str(folder / "adapter")]
    with pytest.raises(SystemExit) as exit_:
        main([name, *paths, *options])
    assert exit_.value.code == 0


def rows_of(folder: Path, name: str, *options: str) -> list[dict[str, Any]]:
    (folder / "in.txt").write_text("".join(f"{text}\n" for text in TEXTS))
    run(folder, name, "-i", str(folder / "in.txt"), "-o", str(folder / "out.jsonl"), *options)
    rows = map(json.loads, (folder / "out.jsonl").read_text().splitlines())
    return sorted(rows, key=lambda row: row["index"])


def encoded(text: str) -> torch.Tensor:
    return torch.tensor([TOKENIZER.encode(text, add_special_tokens=True)])


def test_a_completion_is_that_of_peft(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    theirs = llama(tmp_path)

    run(tmp_path, "generate", "--prompt", TEXTS[0], "--max-tokens", "20", "--ignore-eos", "--json")

    ids = torch.tensor([TOKENIZER.encode(TEXTS[0])])
    options = {"max_new_tokens": 20, "do_sample": False, "eos_token_id": None, "pad_token_id": 0}
    found = theirs.generate(input_ids=ids, **options)[0, ids.shape[1] :].tolist()
    with theirs.disable_adapter():
        plain = theirs.generate(input_ids=ids, **options)[0, ids.shape[1] :].tolist()
    assert json.loads(capsys.readouterr().out)["completion"] == TOKENIZER.decode(found)
    assert found != plain


def test_an_adapter_is_merged_in_fp32_and_kept_apart_in_16_bits(tmp_path: Path) -> None:
    llama(tmp_path)
    paths = (tmp_path / "model", CausalLM, tmp_path / "adapter")
    apart = load_pretrained(tmp_path / "model", CausalLM, dtype=torch.bfloat16)
    load_adapter(apart, tmp_path / "adapter")
    batch = PackedBatch.from_sequences([[5, 7, 11]])

    merged, kept = load_adapted(*paths), load_adapted(*paths, dtype=torch.bfloat16)

    assert adapter_names(merged) == ()
    assert adapter_names(kept) == ("default",)
    with torch.no_grad():
        assert torch.equal(kept.logits(batch), apart.eval().logits(batch))


def test_labels_are_those_of_the_head_in_the_adapter(tmp_path: Path) -> None:
    """The base has a head of two labels, the adapter one of three."""
    bert("ForSequenceClassification", num_labels=2).save_pretrained(tmp_path / "model")
    TOKENIZER.save(tmp_path / "model" / "tokenizer.json")
    base = transformers.BertForSequenceClassification.from_pretrained(
        tmp_path / "model", num_labels=3, ignore_mismatched_sizes=True
    )
    theirs = with_adapter(base, tmp_path, ["query", "dense"], "SEQ_CLS")

    rows = rows_of(tmp_path, "classify")

    for text, row in zip(TEXTS, rows, strict=True):
        with torch.no_grad():
            expected = theirs(input_ids=encoded(text)).logits.softmax(dim=-1)[0]
        assert list(row["probabilities"]) == ["LABEL_0", "LABEL_1", "LABEL_2"]
        found = torch.tensor(list(row["probabilities"].values()))
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_embeddings_take_the_adapter_of_a_model_with_a_head(tmp_path: Path) -> None:
    theirs = adapted(bert("ForMaskedLM"), tmp_path, ["query", "value"], None)

    rows = rows_of(tmp_path, "embed", "--pooling", "mean", "--no-normalize")

    for text, row in zip(TEXTS, rows, strict=True):
        with torch.no_grad():
            states = theirs.base_model.model.bert(input_ids=encoded(text)).last_hidden_state
        found = torch.tensor(row["embedding"])
        torch.testing.assert_close(found, states[0].mean(dim=0), rtol=0, atol=1e-5)


def test_a_head_of_which_nobody_has_a_part_is_refused(tmp_path: Path) -> None:
    """A masked language model has no pooler, which a classifier of BERT needs."""
    bert("ForMaskedLM").save_pretrained(tmp_path / "model")
    classifier = bert("ForSequenceClassification", num_labels=3)
    with_adapter(classifier, tmp_path, ["query"], "SEQ_CLS")

    with pytest.raises(ValueError, match=r"neither .* nor .* holds the weight pooler"):
        load_adapted(tmp_path / "model", SequenceClassifier, tmp_path / "adapter")


@pytest.mark.parametrize("name", ["generate", "chat", "serve", "embed", "classify", "fill-mask"])
def test_a_folder_without_an_adapter_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    head = "LlamaForCausalLM" if name in ("generate", "chat", "serve") else "BertForMaskedLM"
    config = transformers.LlamaConfig if head.startswith("Llama") else transformers.BertConfig
    their_model(config(**{**SIZES, **OF_TOKENIZER}), head).save_pretrained(tmp_path / "model")
    TOKENIZER.save(tmp_path / "model" / "tokenizer.json")
    (tmp_path / "in.txt").write_text("a\n")
    files = ["-i", str(tmp_path / "in.txt"), "-o", str(tmp_path / "out.jsonl")]
    options = {"generate": ["--prompt", "a"], "chat": [], "serve": ["--port", "0"]}.get(name, files)

    with pytest.raises(SystemExit) as exit_:
        main([name, "--model", str(tmp_path / "model"), "--adapter", str(tmp_path), *options])

    assert exit_.value.code == 2
    assert "adapter" in capsys.readouterr().err
