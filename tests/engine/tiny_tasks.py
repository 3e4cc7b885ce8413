"""Rows of every task that a tiny model learns in a second, and folders of such models."""

import dataclasses
import json
from pathlib import Path

import torch

from tests.engine.tiny_models import tiny_config
from weldlm.config import ModelConfig
from weldlm.heads import CausalLM, MaskedLM, Model, Seq2SeqLM
from weldlm.tasks import TaskName
from weldlm.tokenizer import Tokenizer, TokenizerConfig, WordPieceSettings
from weldlm.weights import save_pretrained

__all__ = ["CHAT_TEMPLATE", "tiny_folder", "tiny_rows", "tiny_tokenizer"]

CHAT_TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}<|endoftext|>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)

_GOOD, _BAD = ("fine", "great", "lovely"), ("awful", "poor", "dull")
_THINGS = ("film", "phone", "meal", "room", "plot", "price", "taste", "sound", "view", "song")
_PLACES = ("Rome", "Paris", "Oslo", "Lima")


def tiny_tokenizer(kind: str = "wordpiece", *, has_template: bool = False) -> Tokenizer:
    """A vocabulary of the words in the rows below."""
    words = [*_GOOD, *_BAD, *_THINGS, *_PLACES, "the", "is", "in", "where", "we", "stay", "?", "."]
    if kind == "wordpiece":
        return Tokenizer.train(
            [" ".join(words)] * 9, 300, algorithm=WordPieceSettings(), allow_smaller=True
        )
    special = ["<|endoftext|>", "<|user|>", "<|assistant|>"]
    learned = Tokenizer.train(
        [" ".join(words)] * 9, 320, special_tokens=special, allow_smaller=True
    )
    config = TokenizerConfig(
        roles={"eos_token": "<|endoftext|>"},
        chat_templates={"default": CHAT_TEMPLATE} if has_template else {},
    )
    return Tokenizer(learned.parts, config)


def tiny_folder(folder: Path, task: TaskName) -> Path:
    """A model of the family that suits the task, with drawn weights, and its tokenizer."""
    tokenizer = tiny_tokenizer(
        "wordpiece" if task not in ("seq2seq", "instruct") else "bpe",
        has_template=task == "instruct",
    )
    torch.manual_seed(0)
    model = _model(task, tokenizer)
    save_pretrained(model, folder)
    tokenizer.save_pretrained(folder)
    return folder


def _model(task: TaskName, tokenizer: Tokenizer) -> Model:
    names = {"seq2seq": "t5-v1.1-small", "instruct": "gpt2-tiny"}
    config: ModelConfig = tiny_config(names.get(task, "bert-base"), vocab_size=tokenizer.vocab_size)
    end = tokenizer.special_tokens.get("<|endoftext|>")
    match task:
        case "seq2seq":
            config = dataclasses.replace(
                config, num_encoder_layers=1, eos_id=end, decoder_start_id=end, pad_id=end
            )
            return Seq2SeqLM(config)
        case "instruct":
            return CausalLM(dataclasses.replace(config, eos_id=end, bos_id=end))
        case _:
            return MaskedLM(config)


def tiny_rows(folder: Path, task: TaskName) -> Path:
    """A file of 120 rows whose answers follow from a word or two."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [_row(task, number) for number in range(120)]
    if task == "tokens":
        path = folder / "rows.conll"
        path.write_text("".join(f"{row}\n" for row in rows))
        return path
    if task == "qa":
        path = folder / "rows.json"
        path.write_text(json.dumps({"data": [{"paragraphs": rows}]}))
        return path
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def _row(task: TaskName, number: int) -> object:
    is_good = number % 2
    word = (_GOOD if is_good else _BAD)[number // 2 % 3]
    thing, place = _THINGS[number // 6 % 10], _PLACES[number % 4]
    text = f"the {thing} is {word} {'.' * (number // 60 + 1)}"
    match task:
        case "sentiment" | "classify":
            return {"text": text, "label": is_good}
        case "regression":
            return {"text": text, "score": 100 + 10 * is_good}
        case "tokens":
            tail = ["the O", f"{thing} O", "is O"] * (number // 40 + 1)
            return "\n".join([*tail, "in O", f"{place} B-place", ". O", ""])
        case "qa":
            context = f"the {thing} is {word}. we stay in {place}{'.' * (number // 60 + 1)}"
            answer = {"text": place, "answer_start": context.index(place)}
            question = {"id": str(number), "question": "where ?", "answers": [answer]}
            return {"context": context, "qas": [question]}
        case "seq2seq":
            return {"source": text, "target": word}
        case _:
            return {"prompt": text, "response": word}
