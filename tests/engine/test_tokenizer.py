"""The surface of the tokenizer: special tokens, batches, decoding, sharing."""

import copy
import functools
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from tests.engine.tokenizer_oracles import small, standard_library_texts
from weldlm.tokenizer import DecodeStream, RaggedIds, Tokenizer

END = "<|endoftext|>"


@functools.cache
def with_three_special_tokens() -> Tokenizer:
    return Tokenizer.train(
        standard_library_texts(4), 400, special_tokens=("<|a|>", "<|a|><|b|>", "<|b|>")
    )


def test_properties() -> None:
    tokenizer = small()

    assert tokenizer.vocab_size == 1000
    assert tokenizer.special_tokens == {END: 0}
    assert tokenizer.eos_id == 0


def test_eos_id_is_none_without_end_of_text() -> None:
    assert with_three_special_tokens().eos_id is None


@pytest.mark.parametrize("token_id", [0, 1, 256, 700, 999])
def test_token_and_id_are_inverse(token_id: int) -> None:
    assert small().token_to_id(small().id_to_token(token_id)) == token_id


def test_unknown_token_has_no_id() -> None:
    assert small().token_to_id("no such token") is None


def test_special_token_in_text_is_refused_by_default() -> None:
    with pytest.raises(
        ValueError,
        match=r"text contains the special token '<\|endoftext\|>' at byte 2: pass "
        r"allowed_special=\{'<\|endoftext\|>'\} to encode it as that token, or "
        r"disallowed_special=\(\) \(or call encode_ordinary\) to encode it as plain text",
    ):
        small().encode(f"a {END}")


def test_batch_names_the_text_with_the_special_token() -> None:
    with pytest.raises(ValueError, match=r"text 1 contains the special token '<\|endoftext\|>'"):
        small().encode_batch(["a", END])


def test_allowed_special_token_is_one_id() -> None:
    a, b = small().encode_ordinary("a"), small().encode_ordinary("b")

    assert small().encode(f"a{END}b", allowed_special={END}) == [*a, 0, *b]


def test_special_token_that_is_not_disallowed_is_plain_text() -> None:
    ids = small().encode(END, disallowed_special=())

    assert ids == small().encode_ordinary(END)
    assert b"".join(map(small().id_to_token, ids)) == END.encode()


@pytest.mark.parametrize(
    ("allowed", "expected"),
    [
        pytest.param({"<|a|>", "<|a|><|b|>", "<|b|>"}, [1], id="longest"),
        pytest.param({"<|a|>", "<|b|>"}, [0, 2], id="both-short"),
    ],
)
def test_longest_allowed_token_wins(allowed: set[str], expected: list[int]) -> None:
    ids = with_three_special_tokens().encode(
        "<|a|><|b|>", allowed_special=allowed, disallowed_special=()
    )

    assert ids == expected


def test_disallowed_token_around_an_allowed_one_is_refused() -> None:
    with pytest.raises(ValueError, match=r"special token '<\|a\|><\|b\|>' at byte 0"):
        with_three_special_tokens().encode("<|a|><|b|>", allowed_special={"<|a|>", "<|b|>"})


def test_allowing_one_still_refuses_the_others() -> None:
    with pytest.raises(ValueError, match=r"special token '<\|b\|>' at byte 6"):
        with_three_special_tokens().encode("<|a|> <|b|>", allowed_special={"<|a|>"})


@pytest.mark.parametrize("argument", ["allowed_special", "disallowed_special"])
def test_unknown_special_token_is_refused(argument: str) -> None:
    with pytest.raises(ValueError, match=f"{argument} holds '<x>', which is no special token"):
        small().encode("a", **{argument: {"<x>"}})


def test_str_of_special_tokens_is_refused() -> None:
    with pytest.raises(TypeError, match="allowed_special is the str '<x>', expected 'all'"):
        small().encode("a", allowed_special="<x>")


@pytest.mark.parametrize("text", [b"bytes", None, 3], ids=["bytes", "none", "int"])
def test_other_than_str_is_refused_in_one_line(text: object) -> None:
    with pytest.raises(TypeError, match=rf"^text is a {type(text).__name__}, expected str[^\n]*$"):
        small().encode(text)  # type: ignore[arg-type]  # the claim


@pytest.mark.parametrize("num_threads", [1, 2, 3, 16])
def test_batch_is_its_texts_one_by_one(num_threads: int) -> None:
    texts = ["", *standard_library_texts(40), "", "\ud800 a"]

    batch = small().encode_batch(texts, num_threads=num_threads, disallowed_special=())

    assert [ids.tolist() for ids in batch] == [small().encode_ordinary(text) for text in texts]


def test_batch_has_the_packed_layout() -> None:
    batch = small().encode_batch(["a", "", "b"])

    assert batch.ids.dtype == np.uint32
    assert batch.offsets.dtype == np.int64
    assert batch.offsets.tolist() == [0, 1, 1, 2]
    assert len(batch) == 3


def test_empty_batch_has_one_offset() -> None:
    batch = small().encode_batch([])

    assert batch.offsets.tolist() == [0]
    assert batch.ids.size == 0


def test_batch_of_one_str_is_refused() -> None:
    with pytest.raises(TypeError, match=r"pass \[texts\] or call encode"):
        small().encode_batch("text")


def test_batch_names_the_text_of_another_type() -> None:
    with pytest.raises(TypeError, match="text 1 is a bytes, expected str"):
        small().encode_batch(["a", b"b"])  # type: ignore[list-item]  # the claim


@pytest.mark.parametrize(
    "as_ids",
    [
        pytest.param(list, id="list"),
        pytest.param(tuple, id="tuple"),
        pytest.param(iter, id="iterator"),
        pytest.param(lambda ids: np.array(ids, dtype=np.uint32), id="uint32"),
        pytest.param(lambda ids: np.array(ids, dtype=np.int64), id="int64"),
        pytest.param(lambda ids: np.repeat(np.array(ids, dtype=np.int32), 2)[::2], id="strided"),
        pytest.param(lambda ids: [np.int64(i) for i in ids], id="numpy-integers"),
    ],
)
def test_ids_of_any_kind_decode(as_ids: Callable[[list[int]], list[int]]) -> None:
    ids = small().encode("def main() -> None:")

    assert small().decode(as_ids(ids)) == "def main() -> None:"


@pytest.mark.parametrize("bad_id", [-1, 1000, 2**31, 2**63, -(2**70)])
def test_id_out_of_range_is_refused(bad_id: int) -> None:
    message = rf"id {bad_id} is not in the vocabulary: expected 0 to 999 \(vocab_size=1000\)"

    with pytest.raises(ValueError, match=message):
        small().decode([1, bad_id])


@pytest.mark.parametrize(
    "ids",
    [[1.0], ["a"], np.array([1.5]), np.array([[1, 2]]), 7],
    ids=["float", "str", "float-array", "matrix", "int"],
)
def test_other_than_ids_is_refused(ids: list[int]) -> None:
    with pytest.raises(TypeError):
        small().decode(ids)


def test_bytes_that_are_no_text_are_replaced_or_refused() -> None:
    half = [small().parts.tokens.index(b"\xe4"), small().parts.tokens.index(b"\xb8")]

    assert small().decode_bytes(half) == b"\xe4\xb8"
    assert small().decode(half) == "\ufffd"
    with pytest.raises(UnicodeDecodeError):
        small().decode(half, errors="strict")


@pytest.mark.parametrize(
    "as_batch",
    [small().encode_batch, lambda texts: map(small().encode, texts)],
    ids=["ragged", "iterator"],
)
def test_batch_decodes_to_its_texts(as_batch: Callable[[list[str]], RaggedIds]) -> None:
    texts = ["one", "", "\u4e2d\u6587"]

    assert small().decode_batch(as_batch(texts)) == texts


@given(ids=st.lists(st.integers(0, 999), max_size=40))
def test_stream_joined_is_the_decoded_text(ids: list[int]) -> None:
    stream = DecodeStream(small())

    pieces = [stream.step(token_id) for token_id in ids]

    assert "".join(pieces) + stream.flush() == small().decode(ids)


@given(text=st.text(st.characters(exclude_categories=["Cs"]), max_size=30))
def test_stream_never_gives_half_a_character(text: str) -> None:
    stream = DecodeStream(small())

    pieces = [stream.step(token_id) for token_id in small().encode_ordinary(text)]

    assert "".join(pieces) == text
    assert stream.flush() == ""


def test_stream_begins_anew_after_flush() -> None:
    stream = DecodeStream(small())
    stream.step(small().encode("\u4e2d")[0])

    assert stream.flush() == "\ufffd"
    assert stream.step(small().encode("a")[0]) == "a"


def test_stream_refuses_an_id_out_of_range() -> None:
    with pytest.raises(ValueError, match="id 1000 is not in the vocabulary"):
        DecodeStream(small()).step(1000)


@pytest.mark.parametrize(
    "duplicate",
    [copy.deepcopy, lambda tokenizer: pickle.loads(pickle.dumps(tokenizer))],
    ids=["deepcopy", "pickle"],
)
def test_copy_encodes_alike(duplicate: Callable[[Tokenizer], Tokenizer]) -> None:
    text = standard_library_texts(3)[2]

    copied = duplicate(small())

    assert copied.encode_ordinary(text) == small().encode_ordinary(text)
    assert copied.special_tokens == small().special_tokens


def test_threads_share_a_tokenizer() -> None:
    texts = standard_library_texts(24)
    expected = [small().encode_ordinary(text) for text in texts]

    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(small().encode_ordinary, texts))

    assert found == expected


def test_clearing_the_cache_changes_no_ids() -> None:
    text = standard_library_texts(1)[0]
    before = small().encode_ordinary(text)

    small().clear_cache()

    assert small().encode_ordinary(text) == before


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_forked_child_encodes_while_the_parent_does() -> None:
    texts = standard_library_texts(40)
    expected = small().encode_batch(texts, disallowed_special=()).ids.tolist()

    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(small().encode_batch, texts * 20, disallowed_special=())
        child = os.fork()
        if child == 0:  # the child leaves here, whatever happens
            found = small().encode_batch(texts, num_threads=2, disallowed_special=()).ids.tolist()
            os._exit(found != expected)
        _, status = os.waitpid(child, 0)
        running.result()

    assert os.waitstatus_to_exitcode(status) == 0


def test_importing_it_costs_no_torch() -> None:
    program = "import sys, weldlm.tokenizer; print('torch' in sys.modules)"

    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert run.stdout == "False\n"


@pytest.mark.parametrize("dtype", [np.uint16, np.uint32, np.int64])
def test_array_holds_the_ids(dtype: type) -> None:
    array = small().encode_to_numpy("def f(x): return \u4e2d", dtype=dtype)

    assert array.dtype == dtype
    assert array.tolist() == small().encode("def f(x): return \u4e2d")


def test_dtype_too_small_for_the_vocabulary_is_refused() -> None:
    with pytest.raises(ValueError, match="dtype is uint8; expected integers up to 999"):
        small().encode_to_numpy("a", dtype=np.uint8)


@given(st.text())
def test_byte_offsets_cut_the_text_into_its_tokens(text: str) -> None:
    located = small().encode_with_offsets(text, unit="byte", disallowed_special=())

    data = text.encode("utf-8")
    ends = [0, *located.offsets[:, 1].tolist()]
    assert located.ids == small().encode_ordinary(text)
    assert ends == sorted(ends)
    assert ends[-1] == len(data)


@given(st.text(st.characters(), max_size=30))
def test_character_offsets_name_the_characters(text: str) -> None:
    located = small().encode_with_offsets(text, disallowed_special=())

    spelled = [text[begin:end] for begin, end in located.offsets]
    tokens = [small().id_to_token(i) for i in located.ids]
    assert all(
        token in part.encode("utf-8", "surrogatepass") or "\ud800" <= part <= "\udfff"
        for token, part in zip(tokens, spelled, strict=True)
    )


@pytest.mark.parametrize("text", ["\ud83d\ude00", "a\ud800b"], ids=["pair", "lone"])
def test_offsets_of_surrogates_stay_inside_the_text(text: str) -> None:
    located = small().encode_with_offsets(text)

    assert located.offsets[-1, 1] == len(text)
    assert located.offsets[0, 0] == 0


@given(st.text(), st.integers(0, 12))
def test_truncated_text_is_a_beginning_of_few_tokens(text: str, max_tokens: int) -> None:
    kept = small().truncate(text, max_tokens)

    assert text.startswith(kept)
    assert small().count(kept) <= max_tokens
    assert kept == text or small().count(text) > max_tokens


def test_segments_are_one_text() -> None:
    text = "import os\nclass A: pass"

    ids = small().encode_segments([("import o", False), ("s\ncla", True), ("ss A: pass", False)])

    assert ids == small().encode(text)


def test_special_tokens_take_effect_in_trusted_segments_only() -> None:
    ids = small().encode_segments([("<|endoftext|>", True), ("<|endoftext|>", False)])

    assert ids == [0, *small().encode_ordinary("<|endoftext|>")]


def test_special_token_across_a_border_is_plain_text() -> None:
    ids = small().encode_segments([("<|endof", True), ("text|>", True)])

    assert ids == small().encode_ordinary("<|endoftext|>")


def test_unknown_unit_of_offsets_is_refused() -> None:
    with pytest.raises(ValueError, match="unit is 'chars'; expected 'character' or 'byte'"):
        small().encode_with_offsets("a", unit="chars")  # type: ignore[arg-type]
