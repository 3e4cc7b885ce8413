"""What generation has under way: a group of branches for each request.

A request is a prompt with settings of its own. Its group grows one branch, and as many more as its
samples or beams once the prompt is read; they enter the batch and leave it together.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from weldlm.beam_search import BeamSearch
from weldlm.block_pool import BlockKey, root_key
from weldlm.completion import Completion, FinishReason
from weldlm.config import ModelConfig
from weldlm.layers import Memory
from weldlm.prompt import Prompt, end_of_text_id
from weldlm.sampling import stream_keys
from weldlm.sampling_settings import SamplingSettings
from weldlm.stopped_text import StoppedText
from weldlm.token_logprobs import TokenLogprob
from weldlm.token_rules import TokenRules
from weldlm.tokenizer import Tokenizer

__all__ = ["Branch", "Group", "Request"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A prompt and what is to be made of it."""

    id: int | str  # names it among those under way
    ids: Sequence[int]  # as `encode_prompt` gives them; of a source, where there is an encoder
    settings: SamplingSettings
    row_id: int = 0  # names its stream of random draws


class Group:
    """The branches of one request."""

    def __init__(
        self, request: Request, config: ModelConfig, tokenizer: Tokenizer | None, cache_dtype: str
    ) -> None:
        """Checks the request against the model.

        Raises:
            ValueError: a setting does not fit the model or needs a tokenizer.
        """
        settings = request.settings
        self.request, self.settings = request, settings
        self.source, first = Prompt(request.row_id, request.ids).split(config)
        self.num_first, self.num_source = len(first), len(self.source)
        self.max_length = min(len(first) + settings.max_tokens, config.context_length)
        self.is_cut_by_context = self.max_length < len(first) + settings.max_tokens
        self.stop_ids = set(settings.stop_ids)
        if not settings.ignore_eos:
            eos_ids = {*config.more_eos_ids, end_of_text_id(config, tokenizer)}
            self.stop_ids |= {eos_id for eos_id in eos_ids if eos_id is not None}
        rules = TokenRules(
            settings, stop_ids=self.stop_ids, vocab_size=config.vocab_size, tokenizer=tokenizer
        )
        self.rules = None if rules.is_empty else rules
        if settings.prompt_logprobs is not None and self.source:
            raise ValueError(
                f"prompt_logprobs is {settings.prompt_logprobs}, but an encoder reads the prompt "
                "and predicts none of it; leave prompt_logprobs out"
            )
        self.root = root_key(cache_dtype, ",".join(map(str, self.source)))
        self.memory: Memory | None = None  # of the source, once it is read
        self.prompt_logprobs: list[TokenLogprob] = []
        self.branches = [Branch(self, 0, first, tokenizer)]
        self.keys = stream_keys(settings.seed, request.row_id, range(settings.num_sequences))
        self.beams: BeamSearch | None = None
        if settings.num_beams > 1:
            self.beams = BeamSearch(
                settings, stop_ids=self.stop_ids, num_first=len(first), max_length=self.max_length
            )
        self._tokenizer = tokenizer

    @property
    def width(self) -> int:
        """Most branches at a time."""
        return self.settings.num_sequences

    @property
    def live(self) -> "list[Branch]":
        """The branches that go on."""
        return [branch for branch in self.branches if branch.finish_reason is None]

    @property
    def is_prompt(self) -> bool:
        """Whether no token is new yet."""
        return len(self.branches[0].ids) == self.num_first

    def new_branch(self, index: int) -> "Branch":
        """Adds a copy of the first branch before any token is new; its blocks are to be shared."""
        branch = Branch(self, index, self.branches[0].ids, self._tokenizer)
        self.branches.append(branch)
        return branch

    def completion(self) -> Completion:
        """The best or only branch's, with the others of n."""
        found = self._found()[: self.settings.n]
        first, *others = found
        prompt = None if self.settings.prompt_logprobs is None else tuple(self.prompt_logprobs)
        if not others and prompt is None:
            return first
        return Completion(
            first.text,
            first.ids,
            first.finish_reason,
            first.num_prompt_tokens,
            first.score,
            first.logprobs,
            prompt,
            tuple(others),
        )

    def has_stop_text(self, ids: Sequence[int]) -> bool:
        """Whether the new tokens of a beam hold a text that ends it."""
        text = StoppedText(self._tokenizer, self.settings.stop)
        for token_id in ids[self.num_first :]:
            text.push(token_id)
        return text.is_stopped

    def _found(self) -> list[Completion]:
        num_prompt_tokens = len(self.request.ids)
        if self.beams is not None:
            return [
                self._of_beam(beam.ids[self.num_first :], beam.score, beam.finish_reason)
                for beam in self.beams.finished
            ]
        branches = self.branches
        if not self.settings.is_streamed:
            branches = sorted(branches, key=lambda branch: -branch.score)
        return [branch.completion(num_prompt_tokens) for branch in branches]

    def _of_beam(self, ids: Sequence[int], score: float, reason: FinishReason) -> Completion:
        if reason == "length" and self.is_cut_by_context:
            reason = "context"
        text = StoppedText(self._tokenizer, self.settings.stop)
        spelled = ids[:-1] if ids and ids[-1] in self.stop_ids else ids
        pieces = [text.push(token_id) for token_id in spelled]
        pieces.append(text.finish())
        return Completion("".join(pieces), tuple(ids), reason, len(self.request.ids), score)


class Branch:
    """One sequence of a group, and where it lies in the cache."""

    __slots__ = (
        "_pieces",
        "_text",
        "block_keys",
        "blocks",
        "finish_reason",
        "group",
        "ids",
        "index",
        "logprobs",
        "num_cached",
        "num_published",
        "row",
        "score",
    )

    def __init__(
        self, group: Group, index: int, ids: Sequence[int], tokenizer: Tokenizer | None
    ) -> None:
        self.group, self.index, self.ids = group, index, list(ids)
        self.finish_reason: FinishReason | None = None
        self.score = 0.0  # summed log-probability of the new tokens, where best_of asks for it
        self.logprobs: list[TokenLogprob] = []
        self.num_cached = 0  # tokens whose keys and values the cache holds
        self.num_published = 0  # blocks that others were told of
        self.blocks: list[int] = []
        self.block_keys: list[BlockKey] = []  # of full blocks
        self.row = -1  # of the block table
        self._text = StoppedText(tokenizer, group.settings.stop)
        self._pieces: list[str] = []

    @property
    def num_missing(self) -> int:
        """Tokens that the cache does not hold."""
        return len(self.ids) - self.num_cached

    def accept(self, token_id: int) -> str:
        """Adds a new token and returns the text that it makes final."""
        group = self.group
        self.ids.append(token_id)
        piece = ""
        may_stop = len(self.ids) - group.num_first >= group.settings.min_tokens
        if token_id in group.stop_ids:
            self.finish_reason = "stop"
        else:
            piece = self._text.push(token_id, may_stop=may_stop)
            if len(self.ids) >= group.max_length:
                self.finish_reason = "context" if group.is_cut_by_context else "length"
        if self.finish_reason is not None:
            piece += self._text.finish()
        if self._text.is_stopped:
            self.finish_reason = "stop"
        self._pieces.append(piece)
        return piece

    def completion(self, num_prompt_tokens: int) -> Completion:
        assert self.finish_reason is not None
        settings = self.group.settings
        return Completion(
            text="".join(self._pieces),
            ids=tuple(self.ids[self.group.num_first :]),
            finish_reason=self.finish_reason,
            num_prompt_tokens=num_prompt_tokens,
            score=None if settings.is_streamed else self.score,
            logprobs=None if settings.logprobs is None else tuple(self.logprobs),
        )
