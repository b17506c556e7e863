"""Explanations as a page, and from the command line."""

import json
import sys
from html.parser import HTMLParser

import numpy as np

from commonprior import cli
from commonprior.explanation import Explanation, Trace
from commonprior.monitor.explanation_report import render_explanations

FEW = """temperature,size,length,specularity,defect fraction,volume fraction,topology,log10 thermal conductivity
300,1e-7,1e-6,0.2,1e-5,,wire,1.2
200,5e-8,1e-6,0.3,1e-5,,wire,0.9
400,2e-7,5e-6,0.5,1e-4,,wire,1.3
"""
ONE = """temperature,size,length,specularity,defect fraction,volume fraction,topology
350,2e-7,2e-6,0.4,5e-5,,wire
"""


def explanation(k=20, smooth=True, steps=3):
    rng = np.random.default_rng(0)
    grown = Trace(np.arange(k + 1), rng.normal(size=k + 1), rng.random(k + 1))
    stepped = Trace(np.arange(steps), rng.normal(size=steps), rng.random(steps))
    effects = np.linspace(-0.5, 1, k)
    influence = effects / 2 if smooth else np.full(k, np.nan)
    return Explanation(
        "ic50 (nM) <b>", 1.25, tuple(f"row {i}" for i in range(k)), effects, influence, smooth,
        ("dose", "<script>"), np.array([0.5, -0.25]), 1.0, 0.0, grown, stepped,
    )  # fmt: skip


class Seen(HTMLParser):
    def __init__(self, page):
        super().__init__()
        self.tags, self.labels, self.text = [], [], ""
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.labels += [value for name, value in attributes if name == "aria-label"]

    def handle_data(self, data):
        self.text += data


def test_a_page_shows_what_carried_a_prediction():
    page = render_explanations("run", [("new.csv, row 2", explanation()), ("row 3", explanation(4, False, 0))])
    seen = Seen(page.decode())
    assert seen.tags.count("svg") == 4 + 3
    assert {"script", "b", "img"}.isdisjoint(seen.tags)
    assert "Support sample row 19 did most to it (+1.00)" in seen.text
    assert "5 other samples" in seen.text  # 16 bars: the 15 strongest of 20, and the rest as one
    assert any("5 other samples" in label and "row 19 1.00" in label for label in seen.labels)
    assert "Diamonds: its derivative" in seen.text
    assert "No derivative is shown" in seen.text
    assert page == render_explanations("run", [("new.csv, row 2", explanation()), ("row 3", explanation(4, False, 0))])


def test_the_command_explains_each_row(finished_run, tmp_path, monkeypatch, capsys):
    few, one = tmp_path / "few.csv", tmp_path / "one.csv"
    few.write_text(FEW)
    one.write_text(ONE)
    paths = {"--support": few, "--query": one, "--json": tmp_path / "e.json", "--html": tmp_path / "e.html"}
    arguments = [str(part) for pair in paths.items() for part in pair]
    monkeypatch.setattr(sys, "argv", ["commonprior", "explain", str(finished_run), *arguments])
    cli.main()
    (why,) = json.loads(paths["--json"].read_text())
    assert why["sample"] == "one.csv, row 2"
    assert why["samples"] == ["row 2", "row 3", "row 4"]
    assert why["features"][-1] == "topology"
    assert abs(why["prediction"] - why["baseline"] - sum(why["attribution"]) - why["unexplained"]) < 1e-6
    assert f"= {why['prediction']:.4g}" in capsys.readouterr().out
    assert Seen(paths["--html"].read_text()).tags.count("svg") == 4
