"""Everything that can be seen of one text in one model, in one object."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from torch import Tensor

from weldlm.heads import Model, Seq2SeqLM
from weldlm.inspect.ablation import Ablation, ablate_heads
from weldlm.inspect.answers import Question, labels_of, questions_of
from weldlm.inspect.attention import attention_maps, attention_rollout
from weldlm.inspect.attribution import Attribution, attribute_tokens
from weldlm.inspect.logit_lens import LogitLens, logit_lens
from weldlm.inspect.neighbors import nearest_tokens
from weldlm.inspect.reading import Reading, baseline_of, name_of_score, name_of_token, read_text
from weldlm.inspect.sample import AttentionKind, Sample
from weldlm.tokenizer import Tokenizer

__all__ = ["VIEWS", "InspectSettings", "Inspection", "Neighbors", "View", "inspect_text"]

View = Literal["attention", "rollout", "lens", "attribution", "ablation", "neighbors"]
VIEWS: tuple[View, ...] = get_args(View)

_MOST_DOUBLINGS = 3

Report = Callable[[int, int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class InspectSettings:
    """What is looked at, and how closely."""

    what: tuple[View, ...] | None = None  # views; all that the model's head allows where None
    target: str | None = None  # token or label that is attributed; the most probable where None
    positions: tuple[int, ...] = ()  # places of the tokens whose prediction is attributed
    num_steps: int = 64  # places of gradients, doubled up to three times to sum to the score
    top_k: int = 5  # tokens of each layer of the lens, and neighbors
    max_length: int = 128  # most tokens of the text, and of its target

    def __post_init__(self) -> None:
        for name in ("num_steps", "top_k", "max_length"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; expected at least 1")
        unknown = [view for view in self.what or () if view not in VIEWS]
        if unknown:
            raise ValueError(f"what has {unknown[0]!r}; expected any of {', '.join(VIEWS)}")


@dataclass(frozen=True, slots=True)
class Neighbors:
    """Of each different token of the text: others with embeddings like its own."""

    ids: Tensor  # [N] int64, in the order of the text
    near_ids: Tensor  # [N, top_k] int64, the nearest first
    cosines: Tensor  # [N, top_k]


@dataclass(slots=True, kw_only=True)
class Inspection:
    """What was seen. Views that were not asked for, or that the head does not allow, are empty."""

    model: Model
    model_name: str
    text: str
    reading: Reading
    top_k: int
    attention: dict[AttentionKind, Tensor] = field(default_factory=dict)
    rollout: dict[AttentionKind, Tensor] = field(default_factory=dict)
    lens: LogitLens | None = None
    attributions: list[tuple[Question, Attribution]] = field(default_factory=list)
    baseline: str = ""  # the token that attributions compare with; zeros where empty
    ablation: Ablation | None = None
    ablation_labels: str = ""  # what its loss is of
    neighbors: Neighbors | None = None
    notes: list[str] = field(default_factory=list)  # views that the model or text does not allow
    names: dict[int, str] = field(default_factory=dict)  # of all columns of scores that occur
    token_names: dict[int, str] = field(default_factory=dict)  # of all tokens in `neighbors`


def inspect_text(
    model: Model,
    tokenizer: Tokenizer,
    text: str,
    target_text: str | None = None,
    settings: InspectSettings | None = None,
    *,
    model_name: str = "model",
    report: Report | None = None,
) -> Inspection:
    """Looks at one text in every way that the model allows.

    Args:
        model: any; in evaluation mode.
        tokenizer: that of the model.
        text: what it reads.
        target_text: what an encoder-decoder writes for it; written by the model where None.
        settings: the defaults where None.
        model_name: how the result calls it.
        report: called now and then with how much of a view is done, and of how much.

    Raises:
        ValueError: the text does not fit, or a view in `settings.what` is none that the model's
            head, or the text, allows.
    """
    settings = settings or InspectSettings()
    text = text.encode("utf-8", "replace").decode()  # lone surrogates cannot be written
    reading = read_text(model, tokenizer, text, target_text, max_length=settings.max_length)
    seen = Inspection(
        model=model, model_name=model_name, text=text, reading=reading, top_k=settings.top_k
    )
    task = _Task(seen, tokenizer, settings, report or _silent)
    for view in settings.what or VIEWS:
        try:
            _LOOKS[view](task)
        except ValueError as error:
            if settings.what is not None or settings.target or settings.positions:
                raise
            seen.notes.append(f"{view}: {error}")
    _add_names(seen, tokenizer)
    return seen


@dataclass(frozen=True, slots=True)
class _Task:
    """What each view is filled in with."""

    seen: Inspection
    tokenizer: Tokenizer
    settings: InspectSettings
    report: Report


def _silent(_: int, __: int) -> None:
    pass


def _look_at_attention(task: _Task) -> None:
    task.seen.attention = attention_maps(task.seen.model, task.seen.reading.sample)


def _look_at_rollout(task: _Task) -> None:
    seen = task.seen
    maps = seen.attention or attention_maps(seen.model, seen.reading.sample)
    seen.rollout = {kind: attention_rollout(maps[kind]) for kind in maps if kind != "cross"}


def _look_through_lens(task: _Task) -> None:
    seen, targets = task.seen, None
    sample = seen.reading.sample
    if seen.model.kind == "causal_lm":
        targets = torch.cat((sample.ids[1:], torch.tensor([-100])))
    elif seen.model.kind == "seq2seq_lm":
        targets = seen.reading.written_ids
    elif seen.model.kind == "masked_lm":
        targets = sample.ids.clone()
        targets[list(seen.reading.masked)] = -100
    seen.lens = logit_lens(seen.model, sample, targets=targets, top_k=task.settings.top_k)


def _attribute(task: _Task) -> None:
    seen, settings = task.seen, task.settings
    questions = questions_of(
        seen.model,
        task.tokenizer,
        seen.reading,
        target=settings.target,
        positions=settings.positions,
    )
    baseline, seen.baseline = baseline_of(seen.model.config, task.tokenizer, seen.reading.sample)
    seen.attributions = [
        (question, _attribute_one(task, question, baseline)) for question in questions
    ]


def _attribute_one(task: _Task, question: Question, baseline: Sample | None) -> Attribution:
    """With as many steps as it takes, of those that are allowed; else the closest."""
    tried: list[Attribution] = []
    for doublings in range(_MOST_DOUBLINGS + 1):
        found = attribute_tokens(
            task.seen.model,
            task.seen.reading.sample,
            row=question.row,
            column=question.column,
            score=question.score,
            baseline=baseline,
            num_steps=task.settings.num_steps << doublings,
            report=task.report,
        )
        tried.append(found)
        if found.is_complete:
            break
    return min(tried, key=lambda found: found.completeness_error)


def _ablate(task: _Task) -> None:
    seen = task.seen
    labels = labels_of(seen.model, seen.reading)
    seen.ablation_labels = labels.meaning
    seen.ablation = ablate_heads(seen.model, seen.reading.sample, labels.values, report=task.report)


def _find_neighbors(task: _Task) -> None:
    seen = task.seen
    stack = "encoder" if isinstance(seen.model, Seq2SeqLM) else "transformer"
    table = seen.model.get_parameter(f"{stack}.embedding.tokens.weight")
    ids = torch.tensor(list(dict.fromkeys(seen.reading.sample.ids.tolist())))
    seen.neighbors = Neighbors(ids, *nearest_tokens(table, ids, top_k=task.settings.top_k))


_LOOKS: dict[View, Callable[[_Task], None]] = {
    "attention": _look_at_attention,
    "rollout": _look_at_rollout,
    "lens": _look_through_lens,
    "attribution": _attribute,
    "ablation": _ablate,
    "neighbors": _find_neighbors,
}


def _add_names(seen: Inspection, tokenizer: Tokenizer) -> None:
    if seen.lens is not None:
        columns = torch.cat((seen.lens.top_ids.flatten(), seen.lens.targets)).unique().tolist()
        seen.names = {each: name_of_score(seen.model, tokenizer, each) for each in columns}
    if seen.neighbors is not None:
        ids = torch.cat((seen.neighbors.near_ids.flatten(), seen.neighbors.ids)).unique().tolist()
        seen.token_names = {each: name_of_token(tokenizer, each) for each in ids}
