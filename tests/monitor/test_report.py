"""The report: one harmless file, the same bytes each time, and nothing in it that the data does not say."""

from __future__ import annotations

import dataclasses
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import pandas as pd
import pytest

from commonprior.errors import RunError
from commonprior.monitor import _words
from commonprior.monitor.report import ReportData, render, write_report
from commonprior.task import Column, Target, TaskSpec

SPEC = TaskSpec(Target("conductivity", unit="W/mK"), (Column("temperature", unit="K"), Column("size", unit="nm")))
PAIRED = ["difference", "difference_low", "difference_high"]


class Page(HTMLParser):
    """What a browser would make of a report: refuses elements that do not nest."""

    def __init__(self, document: bytes) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.words: list[str] = []
        self._open: list[str] = []
        self.feed(document.decode())
        self.close()
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag != "meta":
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        self._open.pop()

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if self._open and self._open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).replace("\xa0", " ").split())

    def count(self, tag: str) -> int:
        return sum(name == tag for name, _ in self.elements)

    def values(self, attribute: str) -> list[str]:
        return [attributes[attribute] for _, attributes in self.elements if attribute in attributes]


def costs(rounds: int, sites: int, learning: float = 0.2) -> pd.DataFrame:
    each = {
        "learning.seconds": learning, "protecting.seconds": 0.05, "masking.seconds": 0.05, "invite.seconds": 0.4,
        "invite.up": 100 * sites, "invite.down": 4100 * sites, "masked.seconds": 0.1, "masked.up": 1900 * sites,
        "masked.down": 900 * sites,
    }  # fmt: skip
    rows = [(n, measure, value) for n in range(1, rounds + 1) for measure, value in each.items()]
    return pd.DataFrame(rows, columns=["round", "measure", "value"])


def curve(rounds: int, sites: tuple[str, ...], metric: str = "loss") -> pd.DataFrame:
    rows = [(n, s, metric, 1 / n + 0.1 * i) for n in range(1, rounds + 1) for i, s in enumerate(sites)]
    return pd.DataFrame(rows, columns=["round", "site", "metric", "value"])


def comparison(means: dict[str, float], width: float = 0.02, shots: int = 5, metric: str = "r2") -> pd.DataFrame:
    """Everyone's interval is `width` to both sides, and so is that of the paired difference."""
    rows = []
    for name, mean in means.items():
        difference = mean - means["federated"]
        ends = [end for middle in (mean, difference) for end in (middle, middle - width, middle + width)]
        rows.append((shots, name, metric, 40, *ends))
    columns = ["shots", "contestant", "metric", "tasks", "mean", "low", "high", *PAIRED]
    return pd.DataFrame(rows, columns=columns)


def predictions(n: int = 100) -> pd.DataFrame:
    """Truths of which every tenth lies outside its 90% interval."""
    truth = np.linspace(0, 5, n)
    mean = truth + np.where(np.arange(n) % 10 == 0, 0.17, 0.16)
    return pd.DataFrame({"task": [f"t{i % 7}" for i in range(n)], "truth": truth, "mean": mean, "sd": np.full(n, 0.1)})


def run(sites: tuple[str, ...] = ("Aalto", "Bologna"), /, **changes: Any) -> ReportData:
    data = ReportData(
        name="demo", recipe_toml='[tasks]\nkind = "nanothermal"\n', spec=SPEC, sites=sites, rounds_done=20,
        rounds_planned=20, unit="task", epsilon=2.5, delta=1e-5, budget=4.0, note="simulated data", head="ab" * 32,
        prior="cd" * 32, length=1000, costs=costs(20, len(sites)), curve=curve(20, sites),
        comparison=comparison({"federated": 0.5, "random_forest": 0.4, "pooled": 0.51}), predictions=predictions(),
    )  # fmt: skip
    return dataclasses.replace(data, **changes)


@pytest.fixture(scope="module")
def document() -> bytes:
    return render(run())


@pytest.fixture(scope="module")
def page(document: bytes) -> Page:
    return Page(document)


def test_nothing_is_loaded_and_nothing_runs(document: bytes, page: Page) -> None:
    text = document.decode()
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    assert page.count("svg") == 4
    assert not {"script", "link", "img", "iframe", "object"} & {tag for tag, _ in page.elements}
    assert not page.values("src")
    assert all(ref.startswith("#") for ref in page.values("href"))
    assert all(ref.startswith("#") for ref in re.findall(r"url\(([^)]*)\)", text))


def test_identifiers_are_unique_and_references_hold(document: bytes, page: Page) -> None:
    names = page.values("id")
    assert len(names) == len(set(names))
    used = {ref[1:] for ref in page.values("href")} | set(re.findall(r"url\(#([^)]*)\)", document.decode()))
    assert used
    assert used <= set(names)


def test_same_data_same_bytes_whatever_matplotlib_is_told(document: bytes) -> None:
    with matplotlib.rc_context({"font.size": 31, "axes.grid": True, "svg.fonttype": "path", "text.usetex": True}):
        before = dict(matplotlib.rcParams)
        assert render(run()) == document
        assert dict(matplotlib.rcParams) == before


def test_pictures_take_the_colours_of_the_page(page: Page) -> None:
    drawn = {
        rule for tag, attributes in page.elements if tag in ("path", "use", "text")
        for rule in attributes.get("style", "").split(";") if rule.startswith(("stroke:", "fill:"))
    }  # fmt: skip
    assert "stroke:var(--accent)" in drawn
    assert all(rule.partition(":")[2].startswith(("var(--", "none")) for rule in drawn)
    assert all(label for label in page.values("aria-label"))
    assert page.count("text") > 20


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>", '"><img src=x onerror=y>', "'&amp;</svg></style>"])
def test_what_others_wrote_is_only_text(hostile: str) -> None:
    spec = TaskSpec(Target(hostile, unit=hostile), (Column(hostile, unit=hostile),))
    table = comparison({"federated": 0.5, hostile: 0.4, f"best alone ({hostile})": 0.3})
    tasks = predictions().assign(task=hostile)
    measured = costs(20, 2).replace("invite.up", hostile + ".up")
    written = Page(render(run(
        (hostile, "B"), name=hostile, recipe_toml=hostile, spec=spec, unit=hostile, note=hostile, insecure=hostile,
        stopped=hostile, head=hostile, prior=hostile, audit=hostile, ledger=hostile, costs=measured, predictions=tasks,
        curve=pd.concat([curve(3, (hostile, "B")), curve(3, ("B",), hostile)]),
        comparison=pd.concat([table, comparison({"federated": 0.1, hostile: 0.2}, metric=hostile)]),
    )))  # fmt: skip
    assert not {"script", "img"} & {tag for tag, _ in written.elements}
    assert written.count("svg") == 5
    assert written.text.count(hostile) > 15
    assert not written.values("onerror")


@pytest.mark.parametrize("name", ["$\\bad{$", "温度 ラボ", "a\x00b\x1bc", "abc\u202edcb", "x" * 300, ""])
def test_any_name_of_a_site_can_be_written(name: str) -> None:
    table = comparison({"federated": 0.5, f"best alone ({name})": 0.4})
    text = render(run((name, "B"), comparison=table)).decode()
    assert name.translate({0: "�", 0x1B: "�", 0x202E: "�"}) in text
    assert "\u202e" not in text


def test_half_a_surrogate_is_written_too() -> None:
    assert (
        "<li>x�y</li>"
        in render(dataclasses.replace(run(), sites=("x\ud800y", "B"), name="\ud800", recipe_toml="\udfff")).decode()
    )


def test_figures_of_the_run_stand_in_it(page: Page) -> None:
    text = page.text
    for expected in (
        "simulated data", "2 sites in 20 rounds", "ε = 2.50 at δ = 10⁻⁵ for each task", "62% of the budget, ε = 4.00",
        "at most 92.4% sure", "zero-out", "90% of truths lie in the 90% interval", "1.05 in round 1, 0.100 in round 20",
        "conductivity (W/mK)", "ab" * 32, "cd" * 32, f"commonprior audit runs/demo --expect-head {'ab' * 32}",
        "Aalto", "Bologna", 'kind = "nanothermal"', "commonprior 0.",
    ):  # fmt: skip
        assert expected in text


def test_every_mean_interval_and_difference_is_in_a_table(page: Page) -> None:
    for expected in ("0.500", "[0.480, 0.520]", "0.400", "[0.380, 0.420]", "−0.100", "[−0.120, −0.080]", "+0.010"):
        assert expected in page.text


def test_time_and_bytes_add_up(page: Page) -> None:
    text = page.text
    for row in ("Learning 200 ms 4.00 s 40%", "Protecting (clip and noise) 50.0 ms 1.00 s 10%",
                "Network and rest 200 ms 4.00 s 40%", "All together 500 ms 10.0 s 100%",
                "masked 100 ms 1.90 kB 900 B", "All phases 500 ms 2.00 kB 5.00 kB"):  # fmt: skip
        assert row in text
    assert "2.00 kB up a site and round; float32 averaging: 4.00 kB." in text
    assert "1,000 numbers a site sends 2.00 bytes and receives 5.00 bytes" in text
    assert "takes 4 bytes each way: here it is 50% of that up and 125% down" in text


def test_a_phase_that_cost_nothing_is_left_out() -> None:
    idle = pd.DataFrame({"round": [1, 1], "measure": ["enrol.seconds", "enrol.up"], "value": [0.0, 0.0]})
    assert "enrol" not in Page(render(run(costs=pd.concat([costs(20, 2), idle])))).text


def test_sites_that_work_at_once_are_not_subtracted_from_the_clock() -> None:
    text = Page(render(run(costs=costs(20, 2, learning=3.0)))).text
    assert "Network and rest" not in text
    assert "the rounds themselves took 10.0 s" in text


@pytest.mark.parametrize(("forest", "verdict", "mark"), [
    (0.45, "the federated prior beats the best alternative, the random forest", "▼ worse"),
    (0.55, "From 5 samples of a new task, the random forest wins", "▲ better"),
    (0.51, "there is no clear difference to the best alternative, the random forest", "≈ no clear difference"),
    (0.49, "there is no clear difference to the best alternative, the random forest", "≈ no clear difference"),
])  # fmt: skip
def test_who_wins_is_said(forest: float, verdict: str, mark: str) -> None:
    text = Page(render(run(comparison=comparison({"federated": 0.5, "random_forest": forest})))).text
    assert verdict in text
    assert mark in text


def test_where_less_is_better_the_smaller_error_wins() -> None:
    table = comparison({"federated": 0.5, "random_forest": 0.4}, metric="rmse")
    text = Page(render(run(comparison=table))).text
    assert "the random forest wins" in text
    assert "Root mean square error 0.500 W/mK" in text
    assert "worse by 0.100 (95% interval 0.080 to 0.120)" in text


def test_the_second_of_two_winners_is_named_too() -> None:
    table = comparison({"federated": 0.3, "single_task_gp": 0.5, "random_forest": 0.4})
    text = Page(render(run(comparison=table))).text
    assert "Clearly ahead of the federated prior as well: the random forest." in text


def test_pooled_data_is_no_alternative() -> None:
    table = comparison({"federated": 0.5, "pooled": 0.7, "random_forest": 0.4})
    text = Page(render(run(comparison=table))).text
    assert "beats the best alternative, the random forest" in text
    assert "Pooling all data in one place, which this run avoids, gives 0.700: worse by 0.200" in text


def test_without_paired_differences_nobody_wins() -> None:
    table = comparison({"federated": 0.5, "random_forest": 0.7}).drop(columns=PAIRED)
    text = Page(render(run(comparison=table))).text
    assert "their difference was not tested" in text
    assert "wins" not in text


def test_coverage_is_no_contest() -> None:
    table = comparison({"federated": 0.5, "random_forest": 0.99}, metric="coverage_90")
    text = Page(render(run(comparison=table))).text
    assert "best" not in re.findall(r"Contestant.*", text)[0].split("Predictions")[0].split("Intervals are")[0]
    assert "▲" not in text


def test_every_shot_and_metric_has_its_table() -> None:
    means = {"federated": 0.5, "random_forest": 0.4}
    parts = [comparison(means, shots=k, metric=m) for m in ("nll", "r2") for k in (16, 5)]
    written = Page(render(run(comparison=pd.concat(parts))))
    assert written.text.index("From 5 samples") < written.text.index("From 16 samples")
    assert "Negative log-likelihood, 16 samples" in written.text
    assert written.count("svg") == 5


def test_many_contestants_fold_away_and_none_is_lost() -> None:
    means = {"federated": 0.9, **{f"alone lab{n:02d}": 0.01 * n for n in range(40)}, "random_forest": 0.001}
    written = Page(render(run(comparison=comparison(means))))
    assert "28 more contestants" in written.text
    assert all(f"Site lab{n:02d} alone" in written.text for n in range(40))
    figure = next(label for label in written.values("aria-label") if label.startswith("R²"))
    assert figure.count(", Site lab") == 12
    assert "Random forest" in figure


def test_one_contestant_far_behind_does_not_squeeze_the_others() -> None:
    table = comparison({"federated": 0.5, "random_forest": 0.4, "from_scratch": -300.0})
    text = Page(render(run(comparison=table))).text
    assert "An arrow: beyond the axis." in text
    table = comparison({"federated": 0.5, "random_forest": 0.4, "from_scratch": 0.3})
    assert "An arrow: beyond the axis." not in Page(render(run(comparison=table))).text
    assert "−300.000" in text


@pytest.mark.parametrize("epsilon", [None, math.inf, math.nan, -1.0])
def test_no_guarantee_is_never_called_one(epsilon: float | None) -> None:
    text = Page(render(run(epsilon=epsilon))).text
    assert "no differential privacy guarantee" in text
    assert "No differential privacy." in text
    assert "ε =" not in text


@pytest.mark.parametrize(("epsilon", "said"), [(0.5, False), (4.9, False), (5.0, True), (900.0, True)])
def test_a_weak_promise_is_called_weak(epsilon: float, said: bool) -> None:
    assert ("weak promise" in Page(render(run(epsilon=epsilon, budget=0.0))).text) is said


def test_a_sum_that_hides_nothing_says_so_at_the_top() -> None:
    text = Page(render(run(insecure="Everyone sees everything."))).text
    assert text.index("Everyone sees everything.") < text.index("Rounds")
    assert "The sum was not secure" in text
    assert "The sum is not secure. Everyone sees everything." in text
    assert "nobody saw" not in text
    assert "hidden" not in text


@pytest.mark.parametrize(("done", "stopped", "said"), [
    (20, "", None), (7, "", "Not finished: 7 of 20 rounds are done."),
    (7, "the budget is spent", "The run ended early: the budget is spent"),
])  # fmt: skip
def test_a_run_that_is_not_whole_says_so(done: int, stopped: str, said: str | None) -> None:
    text = Page(render(run(rounds_done=done, stopped=stopped))).text
    assert (said is None) is ("Not finished" not in text and "ended early" not in text)
    assert said is None or said in text


MISSING = {"costs": None, "curve": None, "comparison": None, "predictions": None}
EMPTY = {name: getattr(run(), name).iloc[:0] for name in MISSING}


@pytest.mark.parametrize("parts", [MISSING, EMPTY], ids=["none", "empty"])
def test_missing_parts_are_named(parts: dict[str, pd.DataFrame | None]) -> None:
    written = Page(render(run(rounds_done=0, head="", prior="", length=None, **parts)))
    assert written.count("svg") == 0
    assert written.text.count("run commonprior evaluate on this run") == 3
    assert "No curve was recorded." in written.text
    assert "No costs were recorded." in written.text
    assert "This run has no record yet." in written.text


def test_after_one_round_there_are_dots() -> None:
    written = Page(render(run(rounds_done=1, costs=costs(1, 2), curve=curve(1, ("Aalto", "Bologna")))))
    assert "1.05 in round 1" in written.text
    assert "1 round" in written.text
    dots = [attributes["style"] for tag, attributes in written.elements if tag == "use"]
    assert all(any(f"var(--s{n})" in style for style in dots) for n in (0, 1))


def test_what_is_not_a_number_is_left_out() -> None:
    def spoiled(frame: pd.DataFrame, column: str, rows: slice = slice(0, 3)) -> pd.DataFrame:
        frame = frame.astype({column: float})
        frame.iloc[rows, list(frame.columns).index(column)] = [math.nan, math.inf, -math.inf][: rows.stop]
        return frame

    table = comparison({"federated": 0.5, "random_forest": 0.4, "pooled": 0.6})
    for column in ("low", "high", *PAIRED):
        table = spoiled(table, column)
    written = Page(render(run(
        costs=spoiled(costs(20, 2), "value"), curve=spoiled(curve(20, ("Aalto", "Bologna")), "value"),
        comparison=table, predictions=spoiled(predictions(), "sd"),
    )))  # fmt: skip
    everything = written.text + " ".join(v for _, a in written.elements for v in a.values())
    assert not re.search(r"\b(nan|inf)\b", everything, re.IGNORECASE)
    assert "3 rows without finite numbers left out" in written.text
    assert "0.600 in round 2, 0.100 in round 20" in written.text


def test_one_task_has_no_interval() -> None:
    table = comparison({"federated": 0.5, "random_forest": 0.4}).assign(tasks=1)
    table[["low", "high", "difference_low", "difference_high"]] = math.nan
    text = Page(render(run(comparison=table))).text
    assert "R² 0.500 over 1 task," in text
    assert "their difference was not tested" in text


@pytest.mark.parametrize("number", [2, 8, 9, 50])
def test_few_sites_have_a_colour_each_and_many_have_a_median(number: int) -> None:
    sites = tuple(f"lab{n:02d}" for n in range(number))
    document = render(run(sites, comparison=None, predictions=None))
    written = Page(document)
    legend = [attributes["class"] for _, attributes in written.elements if "swatch" in attributes.get("class", "")]
    lines = [a["style"] for tag, a in written.elements if tag == "path" and "clip-path" in a]
    assert all(site in written.text for site in sites)
    if number <= 8:
        assert len(legend) == number + 4
        assert sum("dashed" in kind for kind in legend) == max(0, number - 4)
        assert len({re.search(r"stroke:var\(--s\d\)", style) and style for style in lines if "--s" in style}) >= number
    else:
        assert f"Thin: each of {number} sites. Bold: their median." in written.text
        assert sum("stroke:var(--muted)" in style for style in lines) == number
        assert sum("stroke:var(--accent)" in style for style in lines) == 1


def test_long_curves_are_thinned_and_stay_small() -> None:
    sites = tuple(f"lab{n:02d}" for n in range(50))
    document = render(run(sites, curve=curve(1500, sites), predictions=predictions(20_000)))
    assert len(document) < 500_000
    assert "at most 60 points a line" in document.decode()
    assert "20,000 predictions" in document.decode()


@pytest.mark.parametrize(("shift", "judged"), [(0.0, "too wide"), (0.5, "too narrow")])
def test_intervals_are_judged(shift: float, judged: str) -> None:
    table = predictions()
    table["mean"] = table["truth"] + shift
    assert judged in Page(render(run(predictions=table))).text


def test_a_few_predictions_judge_nothing() -> None:
    assert "too few predictions" in Page(render(run(predictions=predictions(20)))).text


def test_classes_have_no_predictions_against_truth() -> None:
    spec = TaskSpec(Target("toxic", "classification", classes=("no", "yes")), shape=(8, 8))
    table = comparison({"federated": 0.9, "random_forest": 0.8}, metric="accuracy")
    text = Page(render(run(spec=spec, comparison=table, predictions=predictions().iloc[:0]))).text
    assert "which of 2 classes toxic is from inputs of shape 8 × 8" in text
    assert "Predictions against truth" not in text


@pytest.mark.parametrize("name", list(MISSING))
def test_a_table_without_its_columns_is_refused(name: str) -> None:
    with pytest.raises(RunError, match=f"demo: {name} has no column '.*' \\(it has x\\)"):
        run(**{name: pd.DataFrame({"x": [1]})})


def test_the_file_is_what_was_rendered_and_nothing_else_is_left(tmp_path: Path, document: bytes) -> None:
    path = tmp_path / "demo" / "report.html"
    write_report(run(), path)
    assert path.read_bytes() == document
    assert [file.name for file in path.parent.iterdir()] == ["report.html"]


@pytest.mark.parametrize(("value", "expected"), [
    (0.0, "0"), (0.41234, "0.412"), (12.34, "12.3"), (1234.5, "1,234"), (-0.05, "−0.0500"), (0.9996, "1.00"),
    (9.9996e6, "10⁷"), (2.5e-7, "2.5 × 10⁻⁷"), (math.nan, "–"), (math.inf, "–"),
])  # fmt: skip
def test_figures(value: float, expected: str) -> None:
    assert _words.figure(value) == expected


@pytest.mark.parametrize(("value", "expected"), [
    (0.0123, "12.3 ms"), (4.567, "4.57 s"), (59.0, "59.0 s"), (59.97, "60.0 s"), (200.4, "3 min 20 s"),
    (3599.7, "1 h 0 min"),
])  # fmt: skip
def test_seconds(value: float, expected: str) -> None:
    assert _words.seconds(value) == expected


@pytest.mark.parametrize(("value", "expected"), [
    (512, "512 B"), (999.6, "1.00 kB"), (1234, "1.23 kB"), (4.56e7, "45.6 MB"), (7e14, "700 TB"),
])  # fmt: skip
def test_sizes(value: float, expected: str) -> None:
    assert _words.size(value) == expected


@pytest.mark.parametrize(("share", "expected"), [
    (0.874, "87%"), (0.961, "96.1%"), (0.9967, "99.67%"), (0.99995, "over 99.99%"),
    (1.0, "100%"), (0.0, "0%"), (1.4, "140%"),
])  # fmt: skip
def test_shares(share: float, expected: str) -> None:
    assert _words.percent(share) == expected


def test_differences_keep_a_true_minus_and_no_signed_zero() -> None:
    assert _words.fixed(-0.0004, 3, sign=True) == "0.000"
    assert _words.fixed(-0.04, 3) == "−0.040"
    assert _words.interval(-0.1, 0.2, 2, sign=True) == "[−0.10, +0.20]"


def test_how_diverse_the_tasks_are_is_said_once_the_sites_were_asked(page: Page) -> None:
    assert "Nobody has asked the sites yet" in page.text
    assert "commonprior survey runs/demo" in page.text
    asked = Page(render(run(diversity="the tasks pull in 5.2 directions <b>")))
    assert "Asked of the sites, in secret: the tasks pull in 5.2 directions <b>." in asked.text
    assert "no case for a prior" not in asked.text
    alike = Page(render(run(diversity="the tasks pull in 1.1 directions", alike=True)))
    assert "Perhaps no case for a prior: the tasks pull in 1.1 directions" in alike.text
