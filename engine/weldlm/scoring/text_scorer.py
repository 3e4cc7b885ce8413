"""TextScorer: log-likelihoods of texts, packed into batches by a budget of tokens."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from weldlm.encoding import length_groups
from weldlm.heads import HEADS, CausalLM, MaskedLM, Seq2SeqLM
from weldlm.objectives import IGNORED
from weldlm.packing import PackedBatch
from weldlm.scoring.label_scores import LabelScores, label_scores
from weldlm.tokenizer import Tokenizer
from weldlm.weights import load_pretrained, open_model, path_of_model

__all__ = ["Continuation", "Report", "TextScorer", "load_scorer"]

Ids = Sequence[int]
Report = Callable[[int, int], None]

_SENTINEL = "<extra_id_0>"  # what T5 reads in place of the first hidden span, and writes before it


class _Row(NamedTuple):
    """A forward's part: what is read, and which ids are to follow or to stand in it."""

    ids: Ids
    labels: Ids  # as long as `target` if there is one, else as `ids`; -100 where none
    target: Ids = ()  # what a decoder reads beside


class Continuation(NamedTuple):
    """What a model says of a text behind another."""

    logprob: float  # of all its tokens, nats
    num_tokens: int
    is_best: bool  # whether greedy decoding would write it


@dataclass(frozen=True, slots=True, kw_only=True)
class TextScorer:
    """Scores texts by a model whose head is over the vocabulary."""

    model: CausalLM | MaskedLM | Seq2SeqLM
    tokenizer: Tokenizer
    max_batch_tokens: int = 4_096

    def __post_init__(self) -> None:
        if self.max_batch_tokens < 1:
            raise ValueError(
                f"max_batch_tokens is {self.max_batch_tokens}; expected at least 1 token"
            )

    def continuations(
        self, pairs: Sequence[tuple[str, str]], *, report: Report | None = None
    ) -> list[Continuation]:
        """Scores the second text of each pair behind the first.

        A decoder reads both as one text; white space between them belongs to the second. An
        encoder-decoder reads the first and writes the second.

        Args:
            pairs: (context, continuation); an empty context is the start of a text.
            report: called with the number of pairs done and of all.

        Raises:
            ValueError: a continuation is empty, or a pair does not fit into the context, or the
                model has no decoder.
        """
        rows = [self._continuation(place, *pair) for place, pair in enumerate(pairs)]
        return [
            Continuation(float(logprobs.double().sum()), len(logprobs), bool(is_best.all()))
            for logprobs, is_best in self._scored(rows, report)
        ]

    def texts(self, texts: Sequence[str], *, report: Report | None = None) -> list[Tensor]:
        """Returns the log-probability of each token of each text, [tokens] fp32, nats.

        Special tokens around a text are read and not scored.

        Args:
            texts: none empty.
            report: called with the number of forwards' rows done and of all.

        Raises:
            ValueError: a text is empty or does not fit into the context.
        """
        if isinstance(self.model, CausalLM):
            rows = [self._continuation(place, "", text) for place, text in enumerate(texts)]
            return [scores.logprobs for scores in self._scored(rows, report)]
        bare = [self.encode(text) for text in texts]
        return self.hidden_tokens([(ids, range(len(ids))) for ids in bare], report=report)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text, without special tokens.

        Raises:
            ValueError: there are none.
        """
        ids = self.tokenizer.encode_ordinary(text)
        if not ids:
            raise ValueError("a text is empty; expected at least one token")
        return ids

    def hidden_tokens(
        self, texts: Sequence[tuple[Ids, Sequence[int]]], *, report: Report | None = None
    ) -> list[Tensor]:
        """Returns the log-probability of tokens from all others of their text, each hidden alone.

        Args:
            texts: (ids without special tokens, places to score).
            report: called with the number of tokens done and of all.

        Returns:
            For each text [places] fp32, nats.

        Raises:
            ValueError: a text does not fit, the tokenizer has no token that hides another, or the
                model is a decoder, which does not read what follows.
        """
        rows = [self._hidden(ids, place) for ids, places in texts for place in places]
        found = iter([scores.logprobs for scores in self._scored(rows, report)])
        return [torch.cat([torch.empty(0), *(next(found) for _ in places)]) for _, places in texts]

    def start_id(self) -> int:
        """Returns the id that a decoder's text begins with.

        Raises:
            ValueError: there is none.
        """
        tokenizer, config = self.tokenizer, self.model.config
        known = (tokenizer.bos_id, config.bos_id, tokenizer.eos_id, config.eos_id)
        start = next((token_id for token_id in known if token_id is not None), None)
        if start is None:
            raise ValueError(
                "model and tokenizer have neither a bos nor an eos token; expected one that a text "
                "begins with; name one in the folder's tokenizer_config.json"
            )
        return start

    def template(self) -> tuple[list[int], list[int]]:
        """Returns the special tokens before and behind a text."""
        # of one letter, which no template holds
        bare = self.tokenizer.encode_ordinary("a")
        whole = self.tokenizer.encode("a", add_special_tokens=True)
        at = next(i for i in range(len(whole)) if whole[i : i + len(bare)] == bare)
        return whole[:at], whole[at + len(bare) :]

    def _continuation(self, place: int, context: str, text: str) -> _Row:
        if isinstance(self.model, MaskedLM):
            raise ValueError("the model is an encoder; expected one that continues a text")
        if not text:
            raise ValueError(f"text {place} is empty; expected at least one token")
        before, _ = self.template()
        if isinstance(self.model, Seq2SeqLM):
            source = self.tokenizer.encode(context, add_special_tokens=True)
            return self._written(source, self.encode(text))
        # the tokens of the two joined; where one spans the border it counts as the second's
        whole, bare = self.encode(context + text), context.rstrip()
        num_read = len(self.tokenizer.encode_ordinary(bare)) if bare else 0
        num_read = min(num_read, len(whole) - 1)
        if not num_read:
            before = [self.start_id()]
        ids, num_read = [*before, *whole], len(before) + num_read
        return _Row(ids[:-1], [IGNORED] * (num_read - 1) + ids[num_read:])

    def _hidden(self, ids: Ids, place: int) -> _Row:
        if isinstance(self.model, CausalLM):
            raise ValueError("the model is a decoder; expected one that reads what follows a token")
        mask_id = self.tokenizer.role_id("mask_token")
        sentinel = self.tokenizer.special_tokens.get(_SENTINEL)
        before, after = self.template()
        if isinstance(self.model, MaskedLM):
            if mask_id is None:
                raise ValueError("the tokenizer has no mask token; expected one that hides others")
            labels = [IGNORED] * (len(before) + len(ids) + len(after))
            labels[len(before) + place] = ids[place]
            return _Row([*before, *_replaced(ids, place, mask_id), *after], labels)
        if mask_id is not None:  # BART writes the whole text again
            target = [*before, *ids]
            labels = [IGNORED] * len(target)
            labels[len(before) + place] = ids[place]
            source = [*before, *_replaced(ids, place, mask_id), *after]
            return self._written(source, target, labels)
        if sentinel is None:
            raise ValueError(
                f"the tokenizer has neither a mask token nor {_SENTINEL}; expected one that hides "
                "others"
            )
        source = [*before, *_replaced(ids, place, sentinel), *after]
        return self._written(source, [sentinel, ids[place]], [IGNORED, ids[place]])

    def _written(self, source: Ids, target: Ids, labels: Ids | None = None) -> _Row:
        start = self.model.config.decoder_start_id
        if start is None:
            raise ValueError(
                "the model has no decoder_start_id; expected the id that its targets begin with"
            )
        return _Row(source, target if labels is None else labels, [start, *target[:-1]])

    def _scored(self, rows: Sequence[_Row], report: Report | None) -> list[LabelScores]:
        """Scores each row; the longest ones go first."""
        self._require_fitting(rows)
        found: list[LabelScores | None] = [None] * len(rows)
        device = next(self.model.parameters()).device
        lengths = [len(row.ids) + len(row.target) for row in rows]
        done = 0
        for places in length_groups(lengths, max_batch_tokens=self.max_batch_tokens):
            chosen = [rows[place] for place in places]
            scores = label_scores(self.model, *_arguments(chosen, device))
            counts = [sum(label != IGNORED for label in row.labels) for row in chosen]
            parts = zip(scores.logprobs.split(counts), scores.is_best.split(counts), strict=True)
            for place, part in zip(places, parts, strict=True):
                found[place] = LabelScores(*part)
            done += len(places)
            if report is not None:
                report(done, len(rows))
        return [scores for scores in found if scores is not None]

    def _require_fitting(self, rows: Sequence[_Row]) -> None:
        config = self.model.config
        if config.positions == "relative":
            return
        for place, row in enumerate(rows):
            length = max(len(row.ids), len(row.target))
            if length > config.context_length:
                raise ValueError(
                    f"text {place}, from 0, has {length} tokens with those around it; expected at "
                    f"most the model's context_length {config.context_length}; shorten it"
                )


def load_scorer(
    path: str | Path,
    *,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    max_batch_tokens: int = 4_096,
) -> TextScorer:
    """Reads a model with a head over the vocabulary, and its tokenizer.

    Args:
        path: what `load_pretrained` takes, or the name of a package's model.
        device: where it computes.
        dtype: of the weights; that of the files where None.
        max_batch_tokens: most tokens in a forward.

    Raises:
        FileNotFoundError: there is no model.
        ValueError: it is damaged, or its head is another.
    """
    path = path_of_model(Path(path))
    head = HEADS[open_model(path).head]
    if not issubclass(head, CausalLM | MaskedLM | Seq2SeqLM):
        raise ValueError(
            f"{path} holds a model of kind {head.kind}; expected causal_lm, masked_lm or "
            "seq2seq_lm, which say how probable a text is"
        )
    model: Any = load_pretrained(path, head, device=device, dtype=dtype)
    return TextScorer(
        model=model.eval(),
        tokenizer=Tokenizer.from_pretrained(path),
        max_batch_tokens=max_batch_tokens,
    )


def _replaced(ids: Ids, place: int, token_id: int) -> Iterator[int]:
    return (token_id if i == place else kept for i, kept in enumerate(ids))


def _arguments(rows: Sequence[_Row], device: torch.device) -> list[PackedBatch | Tensor]:
    labels = torch.tensor([label for row in rows for label in row.labels], device=device)
    batches = [PackedBatch.from_sequences([row.ids for row in rows], device)]
    if rows[0].target:
        batches.append(PackedBatch.from_sequences([row.target for row in rows], device))
    return [*batches, labels]
