"""Generation in words: where text begins and ends, and how it is streamed."""

import dataclasses
from collections.abc import Iterator, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.engine.tiny_models import tiny_config, tiny_model
from weldlm.cache import CacheStep
from weldlm.generation import Completion, generate, stream
from weldlm.packing import PackedBatch
from weldlm.sampling import SamplingSettings
from weldlm.tokenizer import AddedToken, Tokenizer, TokenizerParts
from weldlm.tokenizer.bpe import BpeModel, Pattern

EOS = "<|endoftext|>"
PIECES = ("ab", "bc", "cd", "STOP", "\N{SNOWMAN}")

DECODING = pytest.mark.parametrize(
    "settings",
    [
        SamplingSettings(max_tokens=30),
        SamplingSettings(max_tokens=30, temperature=2.0),
    ],
    ids=["greedy", "sampled"],
)


class ScriptedModel:
    """Says the same tokens whatever the prompt, which has one token."""

    def __init__(self, ids: Sequence[int], **changes: object) -> None:
        self.config = tiny_config("gpt2-tiny", **{"vocab_size": 300, **changes})
        self._ids = torch.tensor(ids)

    def parameters(self) -> Iterator[Tensor]:
        yield torch.zeros(1)

    def next_token_logits(self, batch: PackedBatch, _: CacheStep) -> Tensor:
        places = batch.positions[batch.offsets[1:].long() - 1]
        return torch.nn.functional.one_hot(self._ids[places], 300)


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    """One token for each byte (its id is the byte), for each of PIECES and for the end of text."""
    tokens = [bytes([byte]) for byte in range(256)] + [piece.encode() for piece in (*PIECES, EOS)]
    merges = np.empty((0, 3), dtype=np.uint32)
    return Tokenizer(
        TokenizerParts(
            tokens=tokens,
            model=BpeModel(merges),
            pretokenizer=Pattern("gpt2"),
            added_tokens=(AddedToken(EOS, len(tokens) - 1),),
        )
    )


def script(*pieces: str | bytes) -> list[int]:
    """Ids of the given pieces, each in one token, or of bytes, each a token of its own."""
    ids = []
    for piece in pieces:
        ids += list(piece) if isinstance(piece, bytes) else [256 + (*PIECES, EOS).index(piece)]
    return ids


def say(tokenizer: Tokenizer, ids: Sequence[int], **settings: object) -> Completion:
    """The completion of a model that says `ids` and then dots."""
    model = ScriptedModel([*ids, *b"." * 64])
    sampling = SamplingSettings(**{"max_tokens": len(ids), **settings})  # type: ignore[arg-type]
    (completion,) = generate(model, tokenizer, ["?"], sampling)
    return completion


def test_text_prompts_equal_prompts_of_their_ids(tokenizer: Tokenizer) -> None:
    model, settings = tiny_model(vocab_size=300), SamplingSettings(max_tokens=10)
    texts = ["def f(x):", "a \N{SNOWMAN}"]

    from_texts = generate(model, tokenizer, texts, settings)
    from_ids = generate(model, tokenizer, [tokenizer.encode(text) for text in texts], settings)

    assert from_texts == from_ids


def test_text_is_what_the_tokenizer_decodes(tokenizer: Tokenizer) -> None:
    model, settings = tiny_model(vocab_size=256), SamplingSettings(max_tokens=40, temperature=1.0)

    (completion,) = generate(model, tokenizer, ["abc"], settings)

    assert completion.text == tokenizer.decode(completion.ids)
    assert completion.num_prompt_tokens == len(tokenizer.encode("abc"))


def test_ids_without_text_are_counted_but_not_spelled(tokenizer: Tokenizer) -> None:
    completion = say(tokenizer, [*b"a", 290, *b"b"])

    assert (completion.text, completion.ids) == ("ab", (ord("a"), 290, ord("b")))


def test_max_tokens_ends_a_sequence(tokenizer: Tokenizer) -> None:
    completion = say(tokenizer, script(b"hello"), max_tokens=3)

    assert completion == Completion("hel", tuple(b"hel"), "length", 1)


def test_a_full_context_ends_a_sequence(tokenizer: Tokenizer) -> None:
    model = ScriptedModel(list(b"hello"), context_length=4)

    (completion,) = generate(model, tokenizer, ["?"], SamplingSettings(max_tokens=9))

    assert completion == Completion("hel", tuple(b"hel"), "context", 1)


def test_max_tokens_that_fill_the_context_count_as_length(tokenizer: Tokenizer) -> None:
    model = ScriptedModel(list(b"hello"), context_length=4)

    (completion,) = generate(model, tokenizer, ["?"], SamplingSettings(max_tokens=3))

    assert completion.finish_reason == "length"


def test_the_end_of_text_token_of_the_tokenizer_ends_a_sequence(tokenizer: Tokenizer) -> None:
    ids = script("ab", EOS, b"x")

    assert say(tokenizer, ids) == Completion("ab", tuple(ids[:2]), "stop", 1)


def test_the_end_of_text_token_of_the_model_ends_a_sequence(tokenizer: Tokenizer) -> None:
    model = ScriptedModel(list(b"ab!cd"), eos_id=ord("!"))

    (completion,) = generate(model, tokenizer, ["?"], SamplingSettings(max_tokens=5))

    assert completion == Completion("ab", tuple(b"ab!"), "stop", 1)


def test_a_stop_id_ends_a_sequence(tokenizer: Tokenizer) -> None:
    completion = say(tokenizer, script(b"one;two"), stop_ids=(ord("\n"), ord(";")))

    assert completion == Completion("one", tuple(b"one;"), "stop", 1)


STOPS = [
    pytest.param(script(b"x", "ab", b"c", b"d"), ("abc",), "x", 3, id="over-tokens"),
    pytest.param(script(b"x", "ab", "cd"), ("bc",), "xa", 3, id="inside-tokens"),
    pytest.param(script(b"x", "STOP", b"y"), ("T",), "xS", 2, id="inside-one-token"),
    pytest.param(script(b"aaab"), ("aab",), "a", 4, id="begins-again"),
    pytest.param(script("ab", b"c"), ("abc", "b"), "a", 1, id="shorter-is-complete-first"),
    pytest.param(script("STOP"), ("STOP", "TO"), "S", 1, id="shorter-is-complete-first-in-token"),
    pytest.param(script(b"abc"), ("abc", "b"), "a", 2, id="shorter-is-complete-first-by-bytes"),
    pytest.param(script(b"xbc"), ("c", "bc"), "x", 3, id="longer-of-two-with-one-end"),
    pytest.param(script("\N{SNOWMAN}".encode(), b"x"), ("\N{SNOWMAN}",), "", 3, id="bytes"),
    pytest.param(script(b"abx"), ("abc", "bxy"), "abx", 3, id="only-begun"),
]


@pytest.mark.parametrize(("ids", "stop", "text", "num_tokens"), STOPS)
def test_a_stop_text_ends_a_sequence_before_it(
    tokenizer: Tokenizer, ids: list[int], stop: tuple[str, ...], text: str, num_tokens: int
) -> None:
    completion = say(tokenizer, ids, stop=stop)

    assert (completion.text, completion.ids) == (text, tuple(ids[:num_tokens]))
    assert completion.finish_reason == ("length" if text == "abx" else "stop")


def test_half_a_character_at_the_end_becomes_a_replacement_character(tokenizer: Tokenizer) -> None:
    assert say(tokenizer, list("a\N{SNOWMAN}".encode()[:-1])).text == "a\N{REPLACEMENT CHARACTER}"


@pytest.mark.parametrize(
    ("ids", "stop", "pieces"),
    [
        pytest.param(script("ab", b"cd"), (), ["ab", "c", "d"], id="tokens"),
        pytest.param(list("a\N{SNOWMAN}b".encode()), (), ["a", "\N{SNOWMAN}", "b"], id="bytes"),
        pytest.param(script(b"abcd"), ("abcx",), ["abcd"], id="held-until-refuted"),
        pytest.param(script(b"xyabc."), ("abc",), ["x", "y"], id="never-a-part-of-a-stop"),
        pytest.param(script(b"xab"), ("abc",), ["x", "ab"], id="held-until-the-end"),
        pytest.param(script(b"x", EOS, b"y"), ("<|",), ["x"], id="end-of-text"),
    ],
)
def test_stream_yields_text_as_soon_as_it_is_final(
    tokenizer: Tokenizer, ids: list[int], stop: tuple[str, ...], pieces: list[str]
) -> None:
    settings = SamplingSettings(max_tokens=len(ids), stop=stop)

    assert list(stream(ScriptedModel(ids), tokenizer, "?", settings)) == pieces


@DECODING
@pytest.mark.parametrize("stop", [(), ("e",)], ids=["no-stop", "stop"])
def test_streamed_pieces_make_up_the_completion(
    tokenizer: Tokenizer, settings: SamplingSettings, stop: tuple[str, ...]
) -> None:
    model = tiny_model(vocab_size=256)
    settings = dataclasses.replace(settings, stop=stop)

    pieces, returned = collect(stream(model, tokenizer, "abcd", settings))

    assert [returned] == generate(model, tokenizer, ["abcd"], settings)
    assert "".join(pieces) == returned.text


def collect(pieces: Iterator[str]) -> tuple[list[str], Completion]:
    """What a stream yields, and what it returns."""
    yielded = []
    while True:
        try:
            yielded.append(next(pieces))
        except StopIteration as end:
            return yielded, end.value


def test_the_first_piece_comes_before_the_last_token(tokenizer: Tokenizer) -> None:
    settings = SamplingSettings(max_tokens=60)
    model = ScriptedModel([*b"ab"])  # a third token would be out of its range

    assert next(stream(model, tokenizer, "?", settings)) == "a"


def test_no_prompts_give_no_completions(tokenizer: Tokenizer) -> None:
    assert generate(tiny_model(), tokenizer, [], SamplingSettings()) == []


@pytest.mark.parametrize(
    ("changes", "first_id"),
    [({"bos_id": 5, "eos_id": 6}, 5), ({"eos_id": 6}, 6), ({}, 261)],
    ids=["bos", "eos", "eos-of-tokenizer"],
)
def test_an_empty_prompt_starts_from_the_first_token_there_is(
    tokenizer: Tokenizer, changes: dict[str, int], first_id: int
) -> None:
    model = tiny_model("gpt2-tiny", vocab_size=300, **changes)
    settings = SamplingSettings(max_tokens=9)

    assert generate(model, tokenizer, [""], settings) == generate(
        model, tokenizer, [[first_id]], settings
    )


def test_stream_without_settings_takes_the_defaults(tokenizer: Tokenizer) -> None:
    model = ScriptedModel([tokenizer.encode("a")[0]] * 200, context_length=200)

    assert "".join(stream(model, tokenizer, "?")) == "a" * SamplingSettings().max_tokens


def test_stream_refuses_a_bad_prompt_before_the_first_piece(tokenizer: Tokenizer) -> None:
    with pytest.raises(ValueError, match="the prompt has 70 tokens"):
        stream(tiny_model(), tokenizer, "x" * 70, SamplingSettings())


def test_before_min_tokens_neither_a_token_nor_a_text_ends_a_sequence(
    tokenizer: Tokenizer,
) -> None:
    ids = script("STOP", b"a", "STOP", b"b", "STOP", b"c")

    completion = say(tokenizer, ids, min_tokens=4, stop=("STOP",))

    assert (completion.text, completion.finish_reason) == ("STOPaSTOPb", "stop")
    assert completion.ids == tuple(ids[:5])


def test_min_tokens_holds_the_end_of_text_back(tokenizer: Tokenizer) -> None:
    model = ScriptedModel([*script(EOS) * 9], eos_id=script(EOS)[0])
    sampling = SamplingSettings(max_tokens=9, min_tokens=4)

    (completion,) = generate(model, tokenizer, ["?"], sampling)

    assert len(completion.ids) == 5
    assert script(EOS)[0] not in completion.ids[:4]


def test_an_ignored_end_of_text_ends_nothing(tokenizer: Tokenizer) -> None:
    model = ScriptedModel(script(b"a", EOS, b"b", EOS, b"c"), eos_id=script(EOS)[0])
    sampling = SamplingSettings(max_tokens=5, ignore_eos=True)

    (completion,) = generate(model, tokenizer, ["?"], sampling)

    assert completion.ids == tuple(script(b"a", EOS, b"b", EOS, b"c"))
    assert completion.finish_reason == "length"


def test_several_completions_cannot_be_streamed(tokenizer: Tokenizer) -> None:
    settings = SamplingSettings(n=2, temperature=1.0)

    with pytest.raises(ValueError, match="n is 2; expected 1 to stream; use generate"):
        stream(ScriptedModel(list(b"abc")), tokenizer, "?", settings)


def test_the_best_of_several_is_streamed_when_it_is_known(tokenizer: Tokenizer) -> None:
    model = tiny_model(vocab_size=256)
    settings = SamplingSettings(max_tokens=9, best_of=3, temperature=1.0)

    pieces = list(stream(model, tokenizer, "abc", settings))

    (expected,) = generate(model, tokenizer, ["abc"], settings)
    assert pieces == [expected.text]


def test_more_sequences_than_a_batch_holds_are_refused(tokenizer: Tokenizer) -> None:
    settings = SamplingSettings(n=4, temperature=1.0)

    with pytest.raises(ValueError, match="n, best_of or num_beams is 4; expected at most batch_s"):
        generate(tiny_model(vocab_size=256), tokenizer, ["abc"], settings, batch_size=3)
