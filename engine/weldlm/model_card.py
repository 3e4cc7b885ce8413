"""README.md of a model folder: what the model is, what it learned from, how well it does."""

from collections.abc import Mapping
from typing import Any

from weldlm.config import HeadKind, ModelConfig

__all__ = ["front_matter", "write_pretrained_card"]

_PIPELINE_TAGS: dict[HeadKind, str] = {
    "causal_lm": "text-generation",
    "masked_lm": "fill-mask",
    "seq2seq_lm": "text2text-generation",
    "sequence_classification": "text-classification",
    "regression": "text-classification",
    "token_classification": "token-classification",
    "question_answering": "question-answering",
}
_SHOWN_SETTINGS = (
    "steps",
    "rows_per_step",
    "row_length",
    "lr",
    "schedule",
    "warmup_steps",
    "weight_decay",
    "optimizer",
    "dtype",
    "seed",
)


def front_matter(kind: HeadKind) -> list[str]:
    """Returns what model hubs read of a card; the license is for its owner to fill in."""
    return [
        "---",
        "library_name: transformers",
        f"pipeline_tag: {_PIPELINE_TAGS[kind]}",
        "license: unknown",
        "---",
        "",
    ]


def write_pretrained_card(kind: HeadKind, config: ModelConfig, about: Mapping[str, Any]) -> str:
    """Returns the card of a language model that was trained on text.

    Args:
        kind: of its head.
        config: of the model.
        about: "command", "data" (a path), "training" (fields of `TrainSettings`), "num_documents",
            "num_tokens" and "heldout" (figures by name).
    """
    layers = f"{config.num_layers} layers"
    if config.num_encoder_layers:
        layers = f"{config.num_encoder_layers} encoder and {config.num_layers} decoder layers"
    training = about["training"]
    figures = [f"| {name} | {value:.4f} |" for name, value in about["heldout"].items()]
    if figures:
        title = "## Figures on the text held out"
        figures = [title, "", "| measure | value |", "| --- | --- |", *figures, ""]
    return "\n".join(
        [
            *front_matter(kind),
            f"# A language model of {config.num_parameters:,} parameters",
            "",
            f"Made by `{about['command']}`: {config.family}, {layers} of width "
            f"{config.hidden_size}, {config.context_length} tokens of context, "
            f"{config.vocab_size:,} ids. The license is that of the data, and of the model it was "
            "made from; fill it in before you pass the model on.",
            "",
            "## Data",
            "",
            f"- text: `{about['data']}`",
            f"- learned from: {about['num_documents']:,} documents, {about['num_tokens']:,} tokens",
            "",
            "## Settings",
            "",
            *(
                f"- {name}: {training[name]}"
                for name in _SHOWN_SETTINGS
                if training[name] is not None
            ),
            "",
            *figures,
            "## Limits",
            "",
            "- It says what is probable after text like that above, not what is true.",
            "- What bias the text has, this model may have; `weldlm bias --card` measures some.",
            "",
        ]
    )
