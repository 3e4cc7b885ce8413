"""`weldlm tokenizer`: learning, encoding, decoding and describing vocabularies."""

import io
import json
from pathlib import Path

import pytest
import tokenizers

from weldlm.cli import main
from weldlm.tokenizer import Tokenizer

CORPUS = "".join(f"def f{n}(x):\n    return x + {n}\n\n" for n in range(400))


def run(*arguments: object) -> int:
    with pytest.raises(SystemExit) as exit_:
        main([str(argument) for argument in arguments])
    return int(exit_.value.code or 0)


@pytest.fixture(name="corpus")
def corpus_file(tmp_path: Path) -> Path:
    path = tmp_path / "corpus.txt"
    path.write_text(CORPUS)
    return path


@pytest.fixture(name="saved")
def saved_tokenizer(tmp_path: Path) -> Path:
    path = tmp_path / "saved.json"
    Tokenizer.train([CORPUS], 300).save(path)
    return path


@pytest.mark.parametrize("command", ["train", "encode", "decode", "info", "convert"])
def test_every_command_explains_itself(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("tokenizer", command, "--help") == 0
    assert f"Usage: weldlm tokenizer {command}" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("algorithm", "vocab_size"), [("bpe", 300), ("wordpiece", 100), ("unigram", 60)]
)
def test_learned_file_is_read_by_tokenizers(
    algorithm: str, vocab_size: int, corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "learned.json"

    code = run(
        *("tokenizer", "train", corpus, "--out", out),
        *("--algorithm", algorithm, "--vocab-size", vocab_size),
    )

    text = "def f12(x): return [MASK] <unk>"
    assert code == 0
    learned = Tokenizer.from_file(out)
    assert learned.vocab_size == vocab_size
    ids = tokenizers.Tokenizer.from_file(str(out)).encode(text).ids
    assert learned.encode(text, allowed_special="all") == ids


def test_folders_and_json_lines_are_read(tmp_path: Path) -> None:
    folder = tmp_path / "texts"
    folder.mkdir()
    (folder / "a.txt").write_text(CORPUS)
    (folder / "b.jsonl").write_text(json.dumps({"text": " zyx" * 900}) + "\n")
    out = tmp_path / "learned.json"

    run("tokenizer", "train", folder, "--out", out, "--vocab-size", 330)

    assert Tokenizer.from_file(out).token_to_id(" zyx") is not None


def test_special_tokens_are_given_one_by_one(corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "learned.json"

    run(
        *("tokenizer", "train", corpus, "--out", out, "--vocab-size", 300),
        *("--special-token", "<a>", "--special-token", "<b>"),
    )

    assert Tokenizer.from_file(out).special_tokens == {"<a>": 0, "<b>": 1}


def test_ids_are_printed_and_decoded(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = "def f7(x): caf\xe9"

    run("tokenizer", "encode", "--tokenizer", saved, text)
    ids = capsys.readouterr().out.split()
    run("tokenizer", "decode", "--tokenizer", saved, *ids)

    assert list(map(int, ids)) == Tokenizer.from_file(saved).encode(text)
    assert capsys.readouterr().out == text + "\n"


def test_text_and_ids_come_from_stdin(
    saved: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("def f7\n"))
    run("tokenizer", "encode", "--tokenizer", saved)
    monkeypatch.setattr("sys.stdin", io.StringIO(capsys.readouterr().out))

    run("tokenizer", "decode", "--tokenizer", saved)

    assert capsys.readouterr().out == "def f7\n\n"


@pytest.mark.parametrize(("option", "num_ids"), [((), 13), (("--allow-special",), 1)])
def test_special_tokens_are_plain_text_unless_allowed(
    option: tuple[str, ...], num_ids: int, saved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run("tokenizer", "encode", "--tokenizer", saved, "<|endoftext|>", *option)

    assert len(capsys.readouterr().out.split()) == num_ids


def test_tokens_stand_beside_their_ids(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("tokenizer", "encode", "--tokenizer", saved, "def\n\xe9", "--tokens")

    rows = [line.split("\t")[1] for line in capsys.readouterr().out.splitlines()]
    assert rows == ["def", "\\n", "\\xc3", "\\xa9"]


def test_info_says_what_a_file_is(saved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run("tokenizer", "info", "--tokenizer", saved)

    assert capsys.readouterr().out == (
        "type: byte-level BPE\nvocab size: 300\nspecial tokens:\n  0\t<|endoftext|>\n"
    )


def test_info_of_a_folder_is_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    learned = Tokenizer.train([CORPUS], 100, algorithm="wordpiece", special_tokens=["[UNK]"])
    learned.save_pretrained(tmp_path / "model")

    run("tokenizer", "info", "--tokenizer", tmp_path / "model", "--json")

    assert json.loads(capsys.readouterr().out) == {
        "type": "WordPiece",
        "vocab_size": 100,
        "special_tokens": {"[UNK]": 0},
        "roles": {"unk_token": "[UNK]"},
        "has_chat_template": False,
    }


def test_converted_file_is_that_which_was_saved(saved: Path, tmp_path: Path) -> None:
    out, expected = tmp_path / "out.tiktoken", tmp_path / "expected.tiktoken"
    Tokenizer.from_file(saved).save(expected, format="tiktoken")

    code = run(
        *("tokenizer", "convert", "--tokenizer", saved, "--format", "tiktoken", "--out", out)
    )

    assert code == 0
    assert out.read_bytes() == expected.read_bytes()


def test_what_a_format_cannot_say_is_one_line(
    saved: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "vocab.txt"

    code = run(
        *("tokenizer", "convert", "--tokenizer", saved, "--format", "vocab.txt", "--out", out)
    )

    assert code == 2
    assert "the model is byte-level BPE; a vocab.txt holds WordPiece" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("decode", "9999"), "9999"),
        (("encode", "--tokenizer", "absent.json", "a"), "absent.json does not exist"),
    ],
    ids=["id", "file"],
)
def test_what_cannot_be_done_is_one_line(
    arguments: tuple[str, ...],
    message: str,
    saved: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    command, *rest = arguments

    code = run("tokenizer", command, "--tokenizer", saved, *rest)

    error = capsys.readouterr().err
    assert code == 2
    assert message in error
    assert len(error.splitlines()) == 1


def test_ids_of_stdin_are_numbers(
    saved: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("12 x7"))

    code = run("tokenizer", "decode", "--tokenizer", saved)

    assert code == 2
    assert "stdin holds 'x7'; expected ids" in capsys.readouterr().err


def test_min_frequency_of_unigram_is_refused(
    corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = run(
        *("tokenizer", "train", corpus, "--out", tmp_path / "x.json"),
        *("--algorithm", "unigram", "--min-frequency", 2),
    )

    assert code == 2
    assert "--min-frequency is 2, but Unigram merges no pairs" in capsys.readouterr().err
