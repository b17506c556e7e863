"""The command line as a person meets it: one sentence on bad input, exit code 2, nothing half-written."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from commonprior import cli
from commonprior.errors import CommonPriorError
from commonprior.loading import load_run
from commonprior.prior import load_prior

RECIPE = Path(__file__).parents[1] / "examples" / "nanothermal.toml"


@pytest.fixture
def run(command):
    """Run one command line."""
    return command


@pytest.fixture
def table(tmp_path):
    """Twelve small assays at three labs."""
    rng, rows = np.random.default_rng(0), []
    for lab in ("north", "south", "west"):
        for assay in range(4):
            slope, offset = rng.normal(2, 0.3), rng.normal()
            for _ in range(30):
                x = rng.uniform(-1, 1)
                rows.append((lab, f"{lab}-{assay}", round(x, 4), "ab"[rng.integers(2)], round(slope * x + offset, 4)))
    path = tmp_path / "my.csv"
    pd.DataFrame(rows, columns=["lab", "assay", "dose", "cell", "ic50"]).to_csv(path, index=False)
    return path


def test_a_table_of_ones_own_in_one_command_then_adapt_evaluate_audit(table, tmp_path, run):
    arguments = ["--task", "assay", "--site", "lab", "--target", "ic50", "--rounds", "3", "--runs", tmp_path / "runs"]
    code, out, err = run("train", table, *arguments)
    assert (code, err) == (0, "")
    assert "simulation" in out
    assert "unit of privacy: site" in out
    folder = tmp_path / "runs" / "my"
    assert "[learner]" in (folder / "recipe.toml").read_text()
    assert (folder / "report.html").stat().st_size > 10_000
    assert run("train", table, *arguments)[0] == 0
    code, out, _ = run("train", folder / "recipe.toml", "--name", "my", "--runs", tmp_path / "runs")
    assert code == 0
    assert "finished before" in out

    few, new = tmp_path / "few.csv", tmp_path / "new.csv"
    few.write_text("dose,cell,ic50\n-0.5,a,0.1\n0.25,b,1.4\n0.75,a,2.6\n")
    new.write_text("dose,cell\n-0.9,a\n0.5,b\n,a\n")
    code, out, err = run("adapt", folder, "--support", few, "--predict", new, "--output", tmp_path / "out.csv")
    assert (code, err) == (0, "")
    assert "intervals: as learned; a survey of the run checks them" in out
    predicted = pd.read_csv(tmp_path / "out.csv")
    assert list(predicted.columns) == ["row", "ic50", "low_90", "high_90"]
    assert list(predicted.row) == [2, 3, 4]
    assert (predicted.low_90 < predicted.ic50).all()

    code, out, err = run("evaluate", folder, "--shots", "5", "--supports", "2", "--baselines", "random_forest",
                         "--split", "test", "--json", tmp_path / "e.json")  # fmt: skip
    assert (code, err) == (0, "")
    assert {r["contestant"] for r in json.loads((tmp_path / "e.json").read_text())} == {"federated", "random_forest"}
    code, out, err = run("audit", folder, "--json", tmp_path / "a.json")
    assert (code, err) == (0, "")
    assert json.loads((tmp_path / "a.json").read_text())["recomputed"] == 3
    journal = folder / "journal.cbor"
    data = bytearray(journal.read_bytes())
    data[len(data) // 2] ^= 1
    journal.write_bytes(data)
    code, out, err = run("audit", folder)
    assert code == 2
    assert err.count("\n") == 1
    assert "does not hold" in err


@pytest.mark.parametrize(("text", "sentence"), [
    ("[tasks]\nkind = 'nanothermal'\n", "learner: missing; add it"),
    (RECIPE.read_text() + "\n[schedul]\n", "schedul: unknown field; did you mean 'schedule'?"),
    (RECIPE.read_text().replace("shots = 5", "shot = 5"), "schedule.shot: unknown field; did you mean 'shots'?"),
    (RECIPE.read_text().replace("shots = 5", "shots = 'five'"), "schedule.shots = 'five': input should be a valid int"),
    (RECIPE.read_text().replace("shots = 5", "shots = 0"), "schedule.shots = 0: expected at least 1"),
    (RECIPE.read_text().replace('"dkt"', '"dkd"'), "learner.kind: learners: no kind 'dkd'; did you mean 'dkt'?"),
    (RECIPE.read_text().replace("clip = 0.1", "clip = 0.0"), "mechanism.clip = 0.0: expected an L2 norm"),
    (RECIPE.read_text().replace("clip = 0.1", "clip = nan"), "mechanism.clip = nan"),
    (RECIPE.read_text() + "\ndropouts = 3\n", "4 sites, 3 dropouts and 0 colluders do not go together"),
    (RECIPE.read_text() + "\n[budget]\nepsilon = -1.0\n", "budget.epsilon = -1.0"),
    ("kind = [", "not TOML"),
], ids=range(11))  # fmt: skip
def test_a_bad_recipe_is_one_sentence_and_leaves_nothing(text, sentence, tmp_path, run):
    path = tmp_path / "bad.toml"
    path.write_text(text)
    code, out, err = run("train", path, "--runs", tmp_path / "runs")
    assert code == 2
    assert sentence in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "runs" / "bad" / "journal.cbor").exists()


@pytest.mark.parametrize(("few", "new", "sentence"), [
    ("dose,cell,ic50\n0.1,a,x\n", "dose,cell\n1,a\n", "few.csv, row 2, column 'ic50': found 'x'"),
    ("dose,cell,ic50\n0.1,a,\n", "dose,cell\n1,a\n", "few.csv, row 2, column 'ic50': no label"),
    ("dose,cell\n0.1,a\n", "dose,cell\n1,a\n", "few.csv: no column 'ic50' with the labels"),
    ("dose,cell,ic50\n0.1,a,1\n", "dose,cell\nlots,a\n", "row 2, column 'dose': found 'lots'"),
    ("dose,cell,ic50\n0.1,a,1\n", "x\n1\n", "new.csv: none of the columns 'dose', 'cell' is in it"),
    ("dose,cell,ic50\n0.1,a,1\n", "dose,cell\n0.1,a\n", "few.csv, row 2 and"),
    ("dose,cell,ic50\n0.1,a,1\n", "", "new.csv: the file is empty"),
], ids=range(7))  # fmt: skip
def test_bad_samples_are_one_sentence_with_file_and_row(few, new, sentence, table, tmp_path, run, trained):
    (tmp_path / "few.csv").write_text(few)
    (tmp_path / "new.csv").write_text(new)
    code, out, err = run("adapt", trained, "--support", tmp_path / "few.csv", "--predict", tmp_path / "new.csv",
                         "--output", tmp_path / "out.csv")  # fmt: skip
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1
    assert not (tmp_path / "out.csv").exists()


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run on a table, for many tests to adapt."""
    rng, folder = np.random.default_rng(1), tmp_path_factory.mktemp("table")
    rows = [(lab, f"{lab}{t}", rng.uniform(-1, 1), "ab"[t % 2], rng.normal()) for lab in "nsw" for t in range(3)
            for _ in range(12)]  # fmt: skip
    pd.DataFrame(rows, columns=["lab", "assay", "dose", "cell", "ic50"]).to_csv(folder / "t.csv", index=False)
    from rich.console import Console

    from commonprior import commands

    flags = commands.TableFlags("assay", "lab", "ic50", 1)
    commands.train(folder / "t.csv", None, folder / "run", flags, Console(quiet=True), None)
    return folder / "run"


def test_survey_then_novelty(table, tmp_path, run, trained):
    samples = tmp_path / "samples.csv"
    samples.write_text("dose,cell\n" + "".join(f"{x},a\n" for x in (-0.9, -0.4, 0.1, 0.6, 0.9, 300.0)))
    code, out, err = run("novelty", trained, "--samples", samples)
    assert (code, out) == (2, "")
    assert "run `commonprior survey" in err
    code, out, err = run("survey", trained, "--json", tmp_path / "s.json")
    assert (code, err) == (0, "")
    assert "directions (effective rank)" in out
    page = (Path(trained) / "report.html").read_text()
    assert "directions (effective rank)" in page
    assert re.search(r"<dt>Intervals</dt><dd><p>Predicted standard deviations times \d+\.\d\d from now on", page)
    told = json.loads((tmp_path / "s.json").read_text())
    assert told["effective_rank"] >= 1
    assert f"times {told['widening']:.2f} from now on" in out
    assert load_run(trained).widening == told["widening"]
    kept = Path(trained) / "surveys" / "figures.json"
    kept.write_text(json.dumps({**told, "prior": "ab"}))
    assert load_run(trained).widening == 1, "a survey of another prior says nothing"
    kept.write_text("[1")
    assert run("novelty", trained, "--samples", samples)[2].startswith(f"error: {kept}: not what a survey wrote")
    kept.write_text(json.dumps(told))
    code, out, err = run("novelty", trained, "--samples", samples, "--json", tmp_path / "n.json")
    assert (code, err) == (0, "")
    judged = json.loads((tmp_path / "n.json").read_text())
    assert judged["rows"][-1]["row"] == 7
    assert judged["rows"][-1]["p"] == min(r["p"] for r in judged["rows"])
    assert run("novelty", trained, "--samples", samples, "--rate", "2")[2].startswith("error: --rate 2.0: expected")


WAVES = """
tasks = { kind = "sinusoid", sites = 3 }
learner = { kind = "dkt", features = 4, network = { kind = "mlp", widths = [8] } }
mechanism = { kind = "discrete_gaussian", clip = 1.0, per = "site" }
sum = { kind = "masked" }
schedule = { rounds = 2, tasks_per_site = 2, shots = 4, queries = 4 }
policy = { minimum_cohort = 2 }
"""


def test_tune_goes_on_and_writes_a_recipe(tmp_path, run):
    (tmp_path / "waves.toml").write_text(WAVES)
    (tmp_path / "space.toml").write_text('["learner.features"]\nlow = 4\nhigh = 8\ninteger = true\n')
    arguments = ("tune", tmp_path / "waves.toml", "--space", tmp_path / "space.toml", "--runs", tmp_path)
    for trials in (1, 2):
        code, out, err = run(*arguments, "--trials", trials, "--json", tmp_path / "t.json")
        assert (code, err) == (0, "")
        assert "no differential privacy" in out
    first, second = json.loads((tmp_path / "t.json").read_text())
    assert first["settings"] != second["settings"]
    best = (tmp_path / "waves-tune" / "best.toml").read_text()
    assert f"features = {min((first, second), key=lambda t: t['value'])['settings']['learner.features']}" in best
    code, out, err = run(*arguments, "--metric", "rmse")
    assert (code, out) == (2, "")
    assert "holds a search with another space or metric" in err


def test_suggest_names_rows_of_the_candidates_file(tmp_path, run, trained):
    few, many = tmp_path / "few.csv", tmp_path / "many.csv"
    few.write_text("dose,cell,ic50\n-0.5,a,0.1\n0.25,b,1.4\n0.75,a,2.6\n")
    many.write_text("dose,cell\n" + "".join(f"{x},a\n" for x in (-0.9, -0.4, 0.1, 0.6, 0.9)))
    arguments = ("suggest", trained, "--support", few, "--candidates", many, "--count", "2")
    for by in ("improvement", "information"):
        code, out, err = run(*arguments, "--by", by, "--json", tmp_path / "s.json")
        assert (code, err) == (0, "")
        rows = json.loads((tmp_path / "s.json").read_text())
        assert {r["row"] for r in rows} < {2, 3, 4, 5, 6}
        assert all(r["improvement"] >= 0 for r in rows)
        assert f"by {by}" in out
    code, out, err = run(*arguments, "--by", "luck")
    assert (code, err) == (2, "error: --by 'luck': expected improvement or information\n")


@pytest.mark.parametrize(("arguments", "sentence"), [
    (("train", "nowhere.toml"), "nowhere.toml: no such recipe"),
    (("train", "nowhere.csv", "--task", "t"), "nowhere.csv: no such recipe or table"),
    (("adapt", "nowhere", "--support", "a", "--predict", "b"), "nowhere: no run here"),
    (("audit", "nowhere"), "no record here"),
    (("evaluate", "nowhere"), "nowhere: no run here"),
    (("keys", "show", "nowhere"), "nowhere: no identity here; make one with `commonprior keys new nowhere`"),
    (("keys", "trust", "t.json", "lab", "abc"), "KEY: 'abc' is not hexadecimal"),
    (("keys", "trust", "t.json", "lab", "abcd"), "a key has 64 hex digits"),
    (("audit", "nowhere", "--expect-head", "xyz"), "--expect-head: 'xyz' is not hexadecimal"),
    (("trian",), "No such command 'trian'"),
    (("train",), "Missing argument"),
], ids=lambda x: " ".join(x) if isinstance(x, tuple) else "")  # fmt: skip
def test_bad_arguments_are_one_sentence(arguments, sentence, tmp_path, run, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(*arguments)
    assert code == 2
    assert sentence in err
    assert list(tmp_path.iterdir()) == []


def test_labels_that_are_all_alike_and_surveyed_intervals_are_said(trained, tmp_path, run):
    folder, few, new = tmp_path / "run", tmp_path / "few.csv", tmp_path / "new.csv"
    shutil.copytree(trained, folder)
    figures = {"widening": 1.5, "prior": load_prior(folder / "prior.safetensors").hash().hex()}
    (folder / "surveys").mkdir(exist_ok=True)
    (folder / "surveys" / "figures.json").write_text(json.dumps(figures))
    new.write_text("dose,cell\n0.2,a\n")
    few.write_text("dose,cell,ic50\n0.1,a,1\n0.3,b,1\n")
    code, out, _ = run("adapt", folder, "--support", few, "--predict", new)
    assert code == 0
    assert "2 equal labels, which cannot say how far others lie from it: 1 is taken" in " ".join(out.split())
    assert "intervals: as learned, times 1.50 by the run's survey" in out
    few.write_text("dose,cell,ic50\n0.1,a,1\n")
    assert "few.csv: one label, which cannot say" in " ".join(
        run("adapt", folder, "--support", few, "--predict", new)[1].split()
    )


def test_a_prior_of_another_learner_is_refused(trained, tmp_path, run):
    folder = tmp_path / "run"
    shutil.copytree(trained, folder)
    from commonprior.prior import Prior, save_prior

    save_prior(Prior({"w": np.zeros(3, np.float32)}), folder / "prior.safetensors")
    (tmp_path / "few.csv").write_text("dose,cell,ic50\n0.1,a,1\n")
    (tmp_path / "new.csv").write_text("dose,cell\n0.2,a\n")
    code, out, err = run("adapt", folder, "--support", tmp_path / "few.csv", "--predict", tmp_path / "new.csv")
    assert code == 2
    assert "is not the prior that the record names" in err
    (folder / "prior.safetensors").write_bytes(b"junk")
    code, out, err = run("adapt", folder, "--support", tmp_path / "few.csv", "--predict", tmp_path / "new.csv")
    assert code == 2
    assert "not a safetensors file" in err


def test_identities_from_the_command_line(tmp_path, run):
    code, out, err = run("keys", "new", tmp_path / "me.json")
    assert code == 0
    key = out.split()[-1]
    code, out, _ = run("keys", "show", tmp_path / "me.json")
    assert code == 0
    assert key in out
    assert run("keys", "trust", tmp_path / "trust.json", "friend", key)[0] == 0
    assert key in run("keys", "trust", tmp_path / "trust.json")[1]
    assert run("keys", "new", tmp_path / "me.json")[0] == 2


def test_doctor_says_what_there_is(run, tmp_path):
    code, out, _ = run("doctor", "--json", tmp_path / "d.json")
    assert code == 0
    facts = json.loads((tmp_path / "d.json").read_text())
    assert {"masked", "plain"} <= set(facts["sums"].split(", "))
    assert "in the open" in facts["sum plain"]


def test_the_program_as_installed(tmp_path):
    """One subprocess: the entry point is there, help is printed, and an interrupt is no traceback."""
    out = subprocess.run([sys.executable, "-m", "commonprior", "--help"], capture_output=True, text=True, check=True)
    for command in ("train", "adapt", "evaluate", "audit", "doctor", "keys"):
        assert command in out.stdout
    assert "Traceback" not in out.stderr


def test_what_is_refused_on_purpose_never_shows_a_traceback():
    assert issubclass(CommonPriorError, Exception)
    result = CliRunner().invoke(cli.app, ["audit", os.devnull + "/x"])
    assert isinstance(result.exception, CommonPriorError)
