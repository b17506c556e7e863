"""What `commonprior rewards` shows, funds and claims, and an audit that recomputes it."""

import json
import shutil

import pytest

from commonprior.errors import JournalError
from commonprior.ledger.audit import audit
from commonprior.ledger.rewards import Account, Payout
from commonprior.rewarding import _due


@pytest.fixture
def run(finished_run, tmp_path):
    """A copy of a finished run of three rounds of four sites."""
    shutil.copytree(finished_run, tmp_path / "run")
    return tmp_path / "run"


@pytest.fixture
def sites(run):
    return sorted(file.name for file in (run / "sites").iterdir())


def shown(command, run, tmp_path, *arguments):
    code, out, err = command("rewards", run, "--json", tmp_path / "r.json", *arguments)
    assert (code, err) == (0, "")
    return out, json.loads((tmp_path / "r.json").read_text())


def test_hidden_deltas_pay_all_who_signed_alike(command, run, sites, tmp_path):
    _, nothing = shown(command, run, tmp_path)
    assert [s["earned"] for s in nothing["sites"]] == [0, 0, 0, 0]
    out, funded = shown(command, run, tmp_path, "--fund", "30", "--per-round", "2", "--site", sites[0])
    assert f"{sites[0]} put 30.000000 credits into the pot; a round pays 2.000000 credits" in out
    assert [s["earned"] for s in funded["sites"]] == [1_500_000] * 4
    out, claimed = shown(command, run, tmp_path, "--claim", "--site", sites[1])
    assert f"{sites[1]}: 1.500000 credits for 3 rounds" in out
    assert [s["claimed"] for s in claimed["sites"]] == [0, 1_500_000, 0, 0]
    out, everyone = shown(command, run, tmp_path, "--claim")
    assert f"{sites[1]}: 0.000000 credits for 0 rounds" in out  # never twice
    assert everyone["claimed"] == 6_000_000
    assert "the pot: 30.000000 credits put in, 6.000000 credits claimed, at most 2.000000 credits a round" in out
    assert "rewards  hold: 6.000000 credits for 12 claims, of 30.000000 put in" in command("audit", run)[1]


def test_a_pot_that_is_too_empty_is_not_asked():
    """A claim of less than is due would use the claim up."""
    voters = tuple(bytes([n]) * 20 for n in range(4))
    rounds = [Payout(number, 0, voters) for number in (1, 2, 3)]
    pot = Account(2_000_000, 2_300_000, {})
    assert _due(rounds, voters[0], pot) == rounds
    pot.claimed.update({(voters[0], number): 500_000 for number in (1, 2, 3)})
    assert _due(rounds, voters[0], pot) == []
    assert _due(rounds, voters[1], pot) == rounds[:1]
    assert _due(rounds, bytes(20), pot) == []


def test_a_claim_that_was_not_earned_is_found(command, run, sites, tmp_path, monkeypatch):
    shown(command, run, tmp_path, "--fund", "30", "--per-round", "2", "--site", sites[0])
    shown(command, run, tmp_path, "--claim", "--site", sites[0])
    monkeypatch.setattr(Payout, "shares", lambda self, per_round: {})
    with pytest.raises(JournalError, match="was paid 500000 for round 1, of which it earned 0"):
        audit(run)


@pytest.mark.parametrize(("arguments", "words"), [
    (["--fund", "1"], "--fund goes with one --site, whose credits they are, and without --claim"),
    (["--per-round", "1"], "--per-round goes with --fund"),
    (["--fund", "1", "--site", "nobody"], "'nobody' is no site of this run: there are "),
    (["--claim", "--site", "nobody"], "'nobody' is no site of this run: there are "),
    (["--fund", "1", "--per-round", "1e-9", "--site", "SITE"], "--per-round 1e-09: expected credits, a millionth at"),
    (["--fund", "-1", "--per-round", "1", "--site", "SITE"], "--fund -1: expected credits, a millionth at least"),
    (["--fund", "1", "--per-round", "2", "--site", "SITE"], "W: per round"),
    (["--fund", "5000", "--per-round", "2", "--site", "SITE"], "T: balance"),
])  # fmt: skip
def test_what_cannot_be_is_one_sentence(arguments, words, command, run, sites):
    code, _, err = command("rewards", run, *[sites[0] if a == "SITE" else a for a in arguments])
    assert (code, err.count("\n")) == (2, 1)
    assert words in err
    assert audit(run).funded == 0


def test_a_site_whose_keys_are_elsewhere_claims_there(command, run, sites, tmp_path):
    shown(command, run, tmp_path, "--fund", "30", "--per-round", "2", "--site", sites[0])
    (run / "sites" / sites[2] / "identity.json").unlink()
    _, paid = shown(command, run, tmp_path, "--claim")
    assert [s["claimed"] for s in paid["sites"]] == [1_500_000, 1_500_000, 0, 1_500_000]
    code, _, err = command("rewards", run, "--claim", "--site", sites[2])
    assert code == 2
    assert f"the keys of {sites[2]} are not here; run this where the site is" in err


def test_a_run_without_a_ledger_or_without_a_record_pays_nothing(command, run, run_of, make_recipe, tmp_path):
    assert "no record here; name a run folder" in command("rewards", tmp_path)[2]
    text = (run / "recipe.toml").read_text().replace('kind = "embedded"', 'kind = "none"')
    assert text.count('kind = "none"') == 1
    recipe = tmp_path / "alone.toml"
    recipe.write_text(text)
    assert command("train", recipe, "--runs", tmp_path / "runs")[0] == 0
    code, _, err = command("rewards", tmp_path / "runs" / "alone")
    assert code == 2
    assert "the run has no ledger: nothing is paid" in err
