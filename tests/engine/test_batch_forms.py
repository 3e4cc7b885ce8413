"""Forms of rows in batch jobs: chats, rows of OpenAI batches, shards and errors done again."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.engine.cli.test_chat import chatting_tokenizer
from tests.engine.test_batch_job import files, interrupt, read_rows, run
from tests.engine.tiny_models import tiny_model
from weldlm.batch_job import JobCounts, JobFiles, run_batch_job
from weldlm.batch_limits import BatchLimits
from weldlm.generation import generate
from weldlm.job_merge import merge_outputs
from weldlm.sampling import SamplingSettings
from weldlm.tokenizer import Tokenizer

SETTINGS = SamplingSettings(max_tokens=5)
TOKENIZER = chatting_tokenizer()
MODEL = tiny_model(vocab_size=300)


def complete(job: JobFiles, **options: Any) -> JobCounts:
    return run_batch_job(MODEL, TOKENIZER, job, SETTINGS, **options)


def lines(*rows: Any) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def openai_row(custom_id: str, url: str = "/v1/completions", **body: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": url, "body": body}


def test_messages_are_spelled_by_the_template(tmp_path: Path) -> None:
    messages = [{"role": "user", "content": "some text"}]
    job = files(tmp_path, lines({"messages": messages}))

    complete(job)

    prompt = "<user>some text\n<assistant>"
    (expected,) = generate(MODEL, TOKENIZER, [prompt], SETTINGS)
    (row,) = read_rows(job.output)
    assert row["messages"] == messages
    assert row["completion"] == expected.text


def test_rows_of_openai_have_settings_of_their_own_and_answers_in_their_form(
    tmp_path: Path,
) -> None:
    chat = openai_row(
        "b",
        "/v1/chat/completions",
        model="any",
        temperature=0,
        max_tokens=3,
        messages=[{"role": "user", "content": "some"}],
    )
    rows = [openai_row("a", prompt=["some", "text"], temperature=0.8, n=2), chat]
    job = files(tmp_path, lines(*rows))

    counts = complete(job)

    drawn = SamplingSettings(max_tokens=5, temperature=0.8, n=2)
    found = generate(MODEL, TOKENIZER, ["some", "text"], drawn)
    (greedy,) = generate(
        MODEL, TOKENIZER, ["<user>some\n<assistant>"], SamplingSettings(max_tokens=3)
    )
    first, second = read_rows(job.output)
    assert counts == JobCounts(num_completed=2, num_failed=0)
    assert [first["custom_id"], second["custom_id"]] == ["a", "b"]
    assert [first["error"], second["error"]] == [None, None]
    assert first["response"]["status_code"] == 200
    assert [choice["text"] for choice in first["response"]["body"]["choices"]] == [
        part.text for whole in found for part in (whole, *whole.others)
    ]
    answer = second["response"]["body"]["choices"][0]
    assert answer["message"]["content"] == greedy.text


@pytest.mark.parametrize(
    ("row", "status", "message"),
    [
        pytest.param(openai_row("a", prompt="z" * 70), 400, "70 tokens", id="long"),
        pytest.param(openai_row("a", prompt="a", top_p=3), 422, "top_p is 3", id="setting"),
        pytest.param(openai_row("a", prompt="a", n=99), 400, "99 sequences", id="wide"),
        pytest.param(openai_row("a", "/v1/files"), 404, "does not exist", id="url"),
        pytest.param({**openai_row("a"), "method": "GET"}, 422, "method is 'GET'", id="method"),
        pytest.param(openai_row("a", prompt="a", stream=True), 422, "stream", id="stream"),
    ],
)
def test_a_bad_openai_row_is_answered_in_its_form(
    tmp_path: Path, row: dict[str, Any], status: int, message: str
) -> None:
    if row["body"].get("n") == 99:
        row["body"]["temperature"] = 1
    job = files(tmp_path, lines({"prompt": "a"}, row))

    counts = complete(job)

    answer = read_rows(job.output)[1]
    assert counts == JobCounts(num_completed=1, num_failed=1)
    assert answer["custom_id"] == "a"
    assert answer["response"]["status_code"] == status
    assert message in answer["response"]["body"]["error"]["message"]
    assert message in answer["error"]["message"]


PROMPTS = [{"prompt": f"text {number}"} for number in range(7)]


def shard_outputs(folder: Path, count: int) -> list[Path]:
    source = files(folder, lines(*PROMPTS, {"prompt": ""})).source
    outputs = [folder / f"out-{number}.jsonl" for number in range(count)]
    for number, output in enumerate(outputs):
        complete(JobFiles(source, output), shard=(number, count))
    return outputs


def test_merged_shards_are_the_job_done_at_once(tmp_path: Path) -> None:
    outputs = shard_outputs(tmp_path, 3)
    whole = files(tmp_path, lines(*PROMPTS, {"prompt": ""}))
    complete(whole)

    counts = merge_outputs(outputs[::-1], tmp_path / "merged.jsonl")

    merged = [json.loads(line) for line in (tmp_path / "merged.jsonl").read_text().splitlines()]
    assert counts == JobCounts(num_completed=7, num_failed=1)
    assert merged == read_rows(whole.output)


def test_shards_that_are_missing_doubled_or_of_another_job_are_refused(tmp_path: Path) -> None:
    outputs = shard_outputs(tmp_path, 2)
    target = tmp_path / "merged.jsonl"

    with pytest.raises(ValueError, match=r"of the shards 0 to 1, \[1\] are missing"):
        merge_outputs(outputs[:1], target)
    with pytest.raises(ValueError, match="expected each once"):
        merge_outputs([*outputs, outputs[0]], target)
    torn = outputs[0].read_text().splitlines(keepends=True)[:-1]
    outputs[0].write_text("".join(torn))
    with pytest.raises(ValueError, match=r"row \d is not in the outputs"):
        merge_outputs(outputs, target)
    record = outputs[1].with_name("out-1.jsonl.job.json")
    record.write_text(record.read_text().replace('"max_tokens": 5', '"max_tokens": 6'))
    with pytest.raises(ValueError, match="of a job with another max_tokens"):
        merge_outputs(outputs, target)
    record.unlink()
    with pytest.raises(FileNotFoundError, match="does not say which shard"):
        merge_outputs(outputs, target)

    assert not target.exists()


def test_error_rows_are_done_again_and_the_others_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = files(tmp_path, lines(*PROMPTS))
    with monkeypatch.context() as patch:
        patch.setattr("weldlm.prompt_file.encode_prompt", refuse_odd)
        failed = complete(job)
    before = job.output.read_text().splitlines()

    counts = complete(job, retries_errors=True)

    (tmp_path / "whole").mkdir()
    whole = files(tmp_path / "whole", lines(*PROMPTS))
    complete(whole)
    assert failed == JobCounts(num_completed=4, num_failed=3)
    assert counts == JobCounts(num_completed=7, num_failed=0)
    assert read_rows(job.output) == read_rows(whole.output)
    kept = [line for line in before if "error" not in line]
    assert job.output.read_text().splitlines()[: len(kept)] == kept


def refuse_odd(_config: Any, tokenizer: Tokenizer, text: str) -> list[int]:
    if int(text[-1]) % 2:
        raise ValueError("odd")
    return tokenizer.encode(text)


def test_errors_of_another_job_are_not_done_again(tmp_path: Path) -> None:
    job = files(tmp_path, lines({"prompt": ""}, {"prompt": "a"}))
    complete(job)

    with pytest.raises(FileExistsError, match="rows of a job with another max_tokens"):
        run_batch_job(MODEL, TOKENIZER, job, SamplingSettings(max_tokens=6), retries_errors=True)

    assert len(read_rows(job.output)) == 2


def test_rows_of_openai_go_on_after_an_interruption(tmp_path: Path) -> None:
    rows = lines(*(openai_row(str(number), prompt="some", seed=number) for number in range(5)))
    (tmp_path / "whole").mkdir()
    whole = files(tmp_path / "whole", rows)
    run(whole, TOKENIZER)
    job = files(tmp_path, rows)
    interrupt(job, TOKENIZER, after=2)

    run(job, TOKENIZER)

    assert read_rows(job.output) == read_rows(whole.output)


def test_rows_with_settings_of_their_own_differ_from_the_job_in_these(tmp_path: Path) -> None:
    own = {"max_completion_tokens": 3, "temperature": 0.8, "stop_token_ids": [101], "logprobs": 1}
    messages = [{"role": "user", "content": "some"}]
    rows = [{"prompt": "some", "id": "x", **own}, {"prompt": "text"}]
    job = files(tmp_path, lines(*rows, {"messages": messages, "num_beams": 2}))

    complete(job)

    settings = SamplingSettings(max_tokens=3, temperature=0.8, stop_ids=(101,), logprobs=1)
    first, plain, beams = read_rows(job.output)
    (expected,) = generate(MODEL, TOKENIZER, ["some"], settings)
    assert (first["completion"], first["num_tokens"]) == (expected.text, len(expected.ids))
    assert len(first["logprobs"]) == len(expected.ids)
    assert plain["completion"] == generate(MODEL, TOKENIZER, ["text"], SETTINGS)[0].text
    chat = "<user>some\n<assistant>"
    by_beams = SamplingSettings(max_tokens=5, num_beams=2)
    assert beams["score"] == generate(MODEL, TOKENIZER, [chat], by_beams)[0].score


@pytest.mark.parametrize(
    ("own", "message"),
    [
        ({"temperature": -1}, "temperature is -1.0; expected 0"),
        ({"max_tokens": "5"}, "max_tokens is '5'; expected a number of tokens"),
        ({"num_beams": 2, "temperature": 1}, "temperature is 1.0 with num_beams 2"),
        ({"n": 99, "temperature": 1}, "a prompt needs 99 sequences; expected at most batch_size"),
    ],
)
def test_settings_that_are_wrong_make_an_error_row(
    tmp_path: Path, own: dict[str, Any], message: str
) -> None:
    job = files(tmp_path, lines({"prompt": "some", **own}, {"prompt": "text"}))

    counts = complete(job)

    assert counts == JobCounts(num_completed=1, num_failed=1)
    assert message in read_rows(job.output)[0]["error"]


def test_a_body_may_ask_for_beams_and_rules(tmp_path: Path) -> None:
    rules = {"allowed_token_ids": list(range(90, 120)), "bad_words": ["text"]}
    search = {"num_beams": 3, "n": 2, "length_penalty": 0.5, "early_stopping": "never"}
    job = files(
        tmp_path,
        lines(
            openai_row("a", prompt="some", temperature=0, max_tokens=4, **rules),
            openai_row("b", prompt="some", max_tokens=4, **search),
            openai_row("c", prompt="some", early_stopping="soon"),
        ),
    )

    complete(job)

    ruled = SamplingSettings(max_tokens=4, allowed_ids=tuple(range(90, 120)), bad_words=("text",))
    searched = SamplingSettings(
        max_tokens=4, num_beams=3, n=2, length_penalty=0.5, early_stopping="never"
    )
    first, second, third = read_rows(job.output)
    (by_rules,) = generate(MODEL, TOKENIZER, ["some"], ruled)
    (by_search,) = generate(MODEL, TOKENIZER, ["some"], searched)
    assert [choice["text"] for choice in first["response"]["body"]["choices"]] == [by_rules.text]
    texts = [choice["text"] for choice in second["response"]["body"]["choices"]]
    assert texts == [by_search.text, by_search.others[0].text]
    assert "early_stopping is 'soon'; expected true, false or 'never'" in third["error"]["message"]


def test_a_job_with_another_cache_is_another_job(tmp_path: Path) -> None:
    job = files(tmp_path, lines({"prompt": "some"}, {"prompt": "text"}))
    interrupt(job, TOKENIZER, after=1)

    with pytest.raises(FileExistsError, match="rows of a job with another cache_dtype"):
        run(job, TOKENIZER, limits=BatchLimits(cache_dtype="int8"))
