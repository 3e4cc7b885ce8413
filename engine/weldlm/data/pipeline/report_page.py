"""The report of a corpus as one page of HTML that needs nothing else: no network, no script."""

from typing import Any

from jinja2 import Environment

from weldlm.data.cleaning import RULES

__all__ = ["draw_page"]

_ABOUT = {
    "empty": "texts that hold nothing",
    "web_page": "menus, notices and footers of web pages, and pages without content",
    "repair": "characters that came of a wrong encoding",
    "control_characters": "characters that nobody sees",
    "normalization": "other spellings of one character",
    "language": "texts in other languages",
    "contamination": "texts that share words with an evaluation set",
    "redact_email": "e-mail addresses, now <EMAIL>",
    "redact_phone": "telephone numbers, now <PHONE>",
    "redact_ip": "public IP addresses, now <IP>",
    "redact_key": "keys and tokens, now <KEY>",
    "exact_duplicates": "texts that were there before",
    "near_duplicates": "texts that nearly were there before",
    **{name: rule.about for name, rule in RULES.items()},
}
_BAR, _GAP, _HEIGHT = 34, 6, 160  # of the histogram, in pixels

_TEMPLATE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>Corpus report</title>
<style>
:root { color-scheme: light dark; --line: #8884; --bar: #3b7dd8; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; }
h2 { font-size: 1.1rem; margin: 2rem 0 .5rem; }
table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.cards { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0; }
.card { border: 1px solid var(--line); border-radius: .5rem; padding: .5rem 1rem; }
.card b { display: block; font-size: 1.3rem; font-variant-numeric: tabular-nums; }
.wide { overflow-x: auto; }
details { margin: .4rem 0; }
summary { cursor: pointer; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; border-left: 3px solid var(--line);
  margin: .3rem 0 .8rem; padding: .2rem .8rem; font-size: 13px; }
svg text { font-size: 11px; fill: currentColor; }
</style>
</head>
<body>
<h1>Corpus report</h1>
<div class="cards" id="summary">
{% for name, value in cards %}
<div class="card"><b>{{ value }}</b>{{ name }}</div>
{% endfor %}
</div>
<h2>What each step took away</h2>
<div class="wide"><table id="steps">
<thead><tr><th>step</th><th>takes away</th><th class="n">documents removed</th>
<th class="n">documents changed</th><th class="n">characters fewer</th></tr></thead>
<tbody>
{% for step in steps %}
<tr><td>{{ step.name }}</td><td>{{ step.about }}</td><td class="n">{{ step.removed }}</td>
<td class="n">{{ step.changed }}</td><td class="n">{{ step.characters }}</td></tr>
{% else %}
<tr><td colspan="5">Nothing was taken away.</td></tr>
{% endfor %}
</tbody></table></div>
<h2>Tokens in a document</h2>
<div class="wide"><svg id="lengths" role="img" aria-label="Documents by tokens"
 width="{{ chart.width }}" height="{{ chart.height + 40 }}">
{% for bar in chart.bars %}
<g><title>{{ bar.title }}</title>
<rect x="{{ bar.x }}" y="{{ bar.y }}" width="{{ chart.bar }}" height="{{ bar.height }}"
 fill="var(--bar)"/>
<text x="{{ bar.x + chart.bar / 2 }}" y="{{ chart.height + 34 }}"
 text-anchor="middle">{{ bar.label }}</text>
<text x="{{ bar.x + chart.bar / 2 }}" y="{{ bar.y - 4 }}"
 text-anchor="middle">{{ bar.count }}</text></g>
{% endfor %}
</svg></div>
<p>Each bar begins at the number of tokens below it and ends at the next.</p>
<h2>Samples of what was taken away</h2>
<div id="samples">
{% for step in steps if step.samples %}
<details><summary>{{ step.name }} ({{ step.samples | length }})</summary>
{% for sample in step.samples %}
<div>{{ sample.name }}{% if sample.instead %} (stays: {{ sample.instead }}){% endif %}</div>
<pre>{{ sample.text }}</pre>
{% endfor %}
</details>
{% else %}
<p>None.</p>
{% endfor %}
</div>
<h2>What could not be read</h2>
<div class="wide"><table id="bad"><tbody>
{% for row in bad %}
<tr><td>{{ row.place }}</td><td>{{ row.error }}</td></tr>
{% else %}
<tr><td>Everything was read.</td></tr>
{% endfor %}
{% if more_bad %}<tr><td colspan="2">and {{ more_bad }} more</td></tr>{% endif %}
{% for kind, count in left_out %}
<tr><td>{{ count }} of {{ kind }}</td><td>left out: of an unknown kind</td></tr>
{% endfor %}
</tbody></table></div>
<h2>Settings</h2>
<div class="wide"><table id="settings"><tbody>
{% for name, value in settings %}
<tr><td>{{ name }}</td><td>{{ value }}</td></tr>
{% endfor %}
</tbody></table></div>
</body>
</html>
"""


def draw_page(report: dict[str, Any]) -> str:
    """Returns the page.

    Args:
        report: that `describe_corpus` gave.
    """
    environment = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    sources, bad = report["sources"], report["sources"]["first_bad"]
    page = environment.from_string(_TEMPLATE).render(
        cards=_cards(report),
        steps=[_row(name, step) for name, step in report["steps"].items()],
        chart=_chart(report["lengths"]),
        bad=bad,
        more_bad=sources["bad"] - len(bad),
        left_out=list(sources["left_out"].items()),
        settings=list(_flat(report["settings"])),
    )
    return page + "\n"


def _cards(report: dict[str, Any]) -> list[tuple[str, str]]:
    sources = report["sources"]
    cards = [
        ("files", sources["files"]),
        ("bytes in them", sources["bytes"]),
        ("documents read", report["documents"]),
    ]
    for name, split in report["splits"].items():
        cards += [(f"{name} documents", split["documents"]), (f"{name} tokens", split["tokens"])]
    return [(name, f"{value:,}") for name, value in cards]


def _row(name: str, step: dict[str, Any]) -> dict[str, Any]:
    numbers = {key: f"{step[key]:,}" for key in ("removed", "changed", "characters")}
    return {"name": name, "about": _ABOUT.get(name, ""), "samples": step["samples"], **numbers}


def _chart(lengths: list[dict[str, int]]) -> dict[str, Any]:
    most = max((row["documents"] for row in lengths), default=0) or 1
    bars = []
    for place, row in enumerate(lengths):
        height = round(row["documents"] / most * _HEIGHT, 1)
        span = f"{row['from']:,} to {row['to']:,} tokens"
        bars.append(
            {
                "x": place * (_BAR + _GAP),
                "y": _HEIGHT - height + 16,
                "height": height,
                "label": _short(row["from"]),
                "count": _short(row["documents"]) if row["documents"] else "",
                "title": f"{row['documents']:,} documents of {span}",
            }
        )
    width = len(lengths) * (_BAR + _GAP)
    return {"bars": bars, "bar": _BAR, "width": width, "height": _HEIGHT}


def _short(number: int) -> str:
    for size, sign in ((1 << 30, "G"), (1 << 20, "M"), (1 << 10, "k")):
        if number >= size:
            return f"{number / size:.3g}{sign}"
    return str(number)


def _flat(settings: dict[str, Any], before: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for name, value in settings.items():
        if isinstance(value, dict):
            rows += _flat(value, f"{before}{name}.")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
            rows.append((f"{before}{name}", shown))
    return rows
