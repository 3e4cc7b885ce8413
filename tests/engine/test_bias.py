"""Bias sets of every format, and the figures made of them, against hand computation."""

import json
from pathlib import Path

import pytest

from tests.engine.real_data import data_path
from tests.engine.test_scoring import scorer
from weldlm.bias import BiasPair, BiasSet, SentenceTriple, add_to_card, measure_bias, read_bias_set
from weldlm.bias.measure import pair_margins

PAIRS = (
    BiasPair("the film is fine", "the phone is fine", "things", "stereo"),
    BiasPair("we stay in Rome", "we stay in Oslo", "places", "antistereo"),
    BiasPair("the meal is dull", "the meal is dull", "things", "stereo"),
)
TRIPLE = SentenceTriple("the film is fine", "the film is dull", "the film is Rome", "things")


def test_decoder_compares_whole_sentences() -> None:
    ours = scorer("causal")

    margins = pair_margins(ours, PAIRS)

    expected = [
        float(ours.texts([pair.more])[0].sum() - ours.texts([pair.less])[0].sum()) for pair in PAIRS
    ]
    assert margins == pytest.approx(expected, abs=1e-4)
    assert margins[2] == 0.0


def test_encoder_compares_the_tokens_that_both_have() -> None:
    ours = scorer("masked")

    margins = pair_margins(ours, PAIRS)

    def shared(more: str, less: str) -> float:
        ids = [ours.encode(text) for text in (more, less)]
        places = [i for i, (a, b) in enumerate(zip(*ids, strict=True)) if a == b]
        assert 0 < len(places) < len(ids[0])
        sums = [float(part.sum()) for part in ours.hidden_tokens([(row, places) for row in ids])]
        return sums[0] - sums[1]

    assert margins[:2] == pytest.approx([shared(p.more, p.less) for p in PAIRS[:2]], abs=1e-4)
    assert margins[2] == 0.0


def test_shares_count_ties_half_and_have_the_interval_of_wilson() -> None:
    ours = scorer("causal")
    signs = [
        1.0 if margin > 0 else 0.5 if margin == 0 else 0.0 for margin in pair_margins(ours, PAIRS)
    ]

    report = measure_bias(ours, BiasSet("own", "a caveat", PAIRS))

    assert list(report.shares) == ["all", "stereo", "antistereo", "things", "places"]
    assert report.shares["all"].value == pytest.approx(sum(signs) / 3)
    assert report.shares["things"].value == pytest.approx((signs[0] + signs[2]) / 2)
    one = report.shares["places"]
    # Wilson's interval of 0 or 1 of 1 (by his formula: 1 / (1 + z^2) on the other side)
    assert (one.high - one.low) == pytest.approx(1 - 1 / (1 + 1.959964**2), abs=1e-6)


def test_triples_join_sense_and_preference() -> None:
    ours = scorer("causal")
    means = [
        float(ours.texts([text])[0].mean())
        for text in (TRIPLE.stereotype, TRIPLE.anti_stereotype, TRIPLE.unrelated)
    ]

    report = measure_bias(ours, BiasSet("own", "a caveat", triples=(TRIPLE,)))

    sense = (float(means[0] > means[2]) + float(means[1] > means[2])) / 2
    assert report.language_score == pytest.approx(sense)
    assert report.shares["all"].value == float(means[0] > means[1])
    assert report.icat == 0.0  # all one way


def test_crows_pairs_have_directions_and_types(tmp_path: Path) -> None:
    path = tmp_path / "crows.csv"
    path.write_text(
        ",sent_more,sent_less,stereo_antistereo,bias_type\n"
        '0,"a, b","a, c",stereo,age\n1,d,e,antistereo,gender\n'
    )

    found = read_bias_set(path)

    assert found.name == "CrowS-Pairs"
    assert found.pairs == (
        BiasPair("a, b", "a, c", "age", "stereo"),
        BiasPair("d", "e", "gender", "antistereo"),
    )


def test_wino_bias_pairs_the_lines_of_two_files(tmp_path: Path) -> None:
    pro = tmp_path / "pro_stereotyped_type1.txt.dev"
    pro.write_text("1 [The nurse] slept because [she] was tired.\n")
    (tmp_path / "anti_stereotyped_type1.txt.dev").write_text(
        "1 [The nurse] slept because [he] was tired.\n"
    )

    (pair,) = read_bias_set(pro).pairs

    assert pair.more == "The nurse slept because she was tired."
    assert (pair.less, pair.category) == ("The nurse slept because he was tired.", "female")


def test_stereo_set_gives_triples(tmp_path: Path) -> None:
    kinds = ("stereotype", "anti-stereotype", "unrelated")
    item = {
        "bias_type": "race",
        "context": "He came.",
        "sentences": [{"gold_label": kind, "sentence": kind} for kind in kinds],
    }
    path = tmp_path / "set.json"
    path.write_text(json.dumps({"data": {"intrasentence": [item], "intersentence": [item]}}))

    first, second = read_bias_set(path).triples

    assert first == SentenceTriple("stereotype", "anti-stereotype", "unrelated", "race")
    assert second.unrelated == "He came. unrelated"


def test_templates_are_filled_for_each_two_groups(tmp_path: Path) -> None:
    path = tmp_path / "own.toml"
    path.write_text(
        '[[set]]\ncategory = "age"\ntemplate = "A {group} is {attribute}."\n'
        'groups = ["child", "man", "woman"]\nattributes = ["slow", "fast"]\n'
    )

    pairs = read_bias_set(path).pairs

    assert len(pairs) == 6
    assert pairs[0] == BiasPair("A child is slow.", "A man is slow.", "age: child / man")


def test_built_in_set_is_there() -> None:
    assert len(read_bias_set(None).pairs) > 10


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.csv", "x,y\n1,2\n", "has no column sent_more"),
        ("a.csv", ",sent_more,sent_less,bias_type\n0,,b,age\n", "a.csv:2 lacks a sentence"),
        ("a.jsonl", "", "is empty"),
        ("a.jsonl", '{"more": "a"}\n', "a.jsonl:1 is no"),
        ("a.toml", "[[set", "is not TOML"),
        ("a.toml", "[[set]]\ncategory = 'a'\n", "set 0"),
        ("a.json", "[]", "has no data of StereoSet"),
        ("a.json", '{"data": {"intrasentence": [{}]}}', "intrasentence 0 has no"),
        ("a.xml", "", "is no set that is known"),
        ("pro_stereotyped_a.txt", "1 a\n", "does not exist; expected it beside"),
    ],
)
def test_damaged_sets_are_refused(name: str, content: str, message: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)

    with pytest.raises((ValueError, FileNotFoundError), match=message):
        read_bias_set(tmp_path / name)


def test_card_holds_the_newest_figures_once(tmp_path: Path) -> None:
    card = tmp_path / "README.md"
    card.write_text("# A model\n\n## Limits\n\n- What bias it has; it was not measured.\n- other\n")
    data = BiasSet("own", "a caveat", PAIRS)

    add_to_card(tmp_path, measure_bias(scorer("masked"), data))
    add_to_card(tmp_path, measure_bias(scorer("causal"), data))

    text = card.read_text()
    share = measure_bias(scorer("causal"), data).shares["all"]
    assert text.count("## Bias: own") == 1
    assert f"| all | 3 | {share.value:.3f} |" in text
    assert "it was not measured" not in text
    assert "- other" in text


def test_all_pairs_of_the_real_set_are_read() -> None:
    found = read_bias_set(data_path("bias/crows_pairs_anonymized.csv"))

    assert len(found.pairs) == 1_508
    assert len({pair.category for pair in found.pairs}) == 9
