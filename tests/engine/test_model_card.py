"""Every folder of a model that a command leaves says what the model is."""

import dataclasses
import json
from pathlib import Path

import pytest

from tests.engine.tiny_models import tiny_config
from weldlm.cli import main
from weldlm.model_card import front_matter, write_pretrained_card
from weldlm.train_settings import TrainSettings


def test_training_leaves_a_card_and_its_figures(tmp_path: Path) -> None:
    text = tmp_path / "corpus.jsonl"
    rows = [{"text": f"the film number {i} is fine and so is the meal"} for i in range(40)]
    text.write_text("\n".join(map(json.dumps, rows)))
    options = ("--vocab-size", "270", "--context-length", "32", "--steps", "1", "--held-out", "0.2")

    with pytest.raises(SystemExit) as exit_:
        main(["train", "--data", str(text), "--out", str(tmp_path / "run"), *options])

    model = tmp_path / "run" / "model"
    card = (model / "README.md").read_text()
    metrics = json.loads((model / "metrics.json").read_text())
    assert exit_.value.code in (None, 0)
    assert card.startswith("---\nlibrary_name: transformers\npipeline_tag: text-generation\n")
    assert "license: unknown" in card
    assert f"| loss | {metrics['heldout']['loss']:.4f} |" in card
    assert f"{metrics['num_documents']} documents" in card
    assert metrics["training"]["steps"] == 1


def test_encoder_decoders_have_two_numbers_of_layers() -> None:
    config = tiny_config("t5-small", num_encoder_layers=3, decoder_start_id=0)
    about = {
        "command": "weldlm train",
        "data": "a.txt",
        "num_documents": 1,
        "num_tokens": 9,
        "training": dataclasses.asdict(TrainSettings(steps=2)),
        "heldout": {},
    }

    card = write_pretrained_card("seq2seq_lm", config, about)

    assert "3 encoder and 2 decoder layers" in card
    assert "held out" not in card


def test_license_is_for_the_owner_to_fill_in() -> None:
    assert front_matter("masked_lm")[2:4] == ["pipeline_tag: fill-mask", "license: unknown"]
