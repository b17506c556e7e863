"""A run whose ledger is a node: it is killed in the middle, comes back with its state, and is audited from alone."""

import json
import re
import time

import pytest

from commonprior.ledger.journal import Journal

from ._consortium import ANVIL_CHAIN, anvil, needs_anvil

pytestmark = needs_anvil
pytest.importorskip("web3", reason="no web3: install commonprior[rpc]")

ROUNDS = 3


@pytest.fixture
def train(finished_run, tmp_path, command):
    """The one command that trains over a node."""
    text = (finished_run / "recipe.toml").read_text().replace('"embedded"', '"rpc"')
    recipe = tmp_path / "over.toml"
    recipe.write_text(text.replace("chain = 0", f"chain = {ANVIL_CHAIN}"))
    return lambda: command("train", recipe, "--runs", tmp_path / "runs")


def node(state):
    """A node that keeps its state in a file, and asks no fees."""
    return anvil("--base-fee", "0", "--state", str(state), "--state-interval", "1")


def kill_at(monkeypatch, round_, chain, state):
    """Kill the node when the journal gets the record of a round, once its file is as new as the round before."""
    append = Journal.append

    def killing(self, entry, signatures, ballots=()):
        if getattr(entry, "round", 0) == round_:
            until = time.time_ns()
            while not state.exists() or state.stat().st_mtime_ns < until:
                time.sleep(0.05)
            chain.__exit__(None, None, None)
        append(self, entry, signatures, ballots)

    monkeypatch.setattr(Journal, "append", killing)
    return append


def test_a_node_that_is_killed_comes_back_and_the_same_command_goes_on(train, command, tmp_path, monkeypatch):
    journal, state = tmp_path / "runs" / "over" / "journal.cbor", tmp_path / "state.json"
    first = node(state)
    monkeypatch.setenv("COMMONPRIOR_RPC", first.__enter__())
    whole = kill_at(monkeypatch, 2, first, state)
    code, _, err = train()
    assert (code, err.count("\n")) == (2, 1)
    assert re.search(
        r"the node does not answer \(\w+ at eth_\w+\); start it, or name another one, and run the same", err
    )
    assert len(Journal(journal).records) == 3, "the round that the sites signed is kept, and entered later"
    assert train()[0] == 2, "and as long as it is down, so it stays"

    monkeypatch.setattr(Journal, "append", whole)
    with node(state) as url:
        monkeypatch.setenv("COMMONPRIOR_RPC", url)
        code, out, err = train()
        assert (code, err) == (0, "")
        named = re.search(r"--contracts (\S+) --opening (\S+)", out)
        run = tmp_path / "runs" / "over"
        site = sorted(file.name for file in (run / "sites").iterdir())[0]
        assert command("rewards", run, "--fund", "40", "--per-round", "8", "--site", site)[0] == 0
        code, out, err = command("rewards", run, "--claim", "--site", site)
        assert (code, err) == (0, "")
        assert f"{site}: 6.000000 credits for 3 rounds" in out
        code, out, err = command("audit", tmp_path / "runs" / "over", "--json", tmp_path / "folder.json")
        assert (code, err) == (0, "")
        alone = ["audit", "--chain", ANVIL_CHAIN, "--contracts", named[1], "--opening", named[2]]
        code, out, err = command(*alone, "--json", tmp_path / "node.json")
        assert (code, err) == (0, "")
        assert f"holds: {ROUNDS} rounds on rpc chain {ANVIL_CHAIN}" in out
        stranger = command(*alone, "--trust", "00" * 32)[2]
        unknown = command(*alone[:-1], "11" * 32)[2]
    folder, chain = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("folder", "node"))
    assert chain == {**folder, "recomputed": 0, "resummed": 0}
    assert (chain["funded"], chain["paid"]) == (40_000_000, 6_000_000)
    assert (chain["entered"], folder["recomputed"]) == (ROUNDS, ROUNDS)
    assert "is not in the roster: signed anew by others" in stranger
    assert "holds no run 1111" in unknown


def test_a_node_that_was_put_back_to_before_the_run_is_refused(train, command, tmp_path, monkeypatch):
    """Its state is lost: the contracts are not there, and nothing is made anew in their place."""
    with node(tmp_path / "state.json") as url:
        monkeypatch.setenv("COMMONPRIOR_RPC", url)
        assert train()[0] == 0
    with node(tmp_path / "empty.json") as url:
        monkeypatch.setenv("COMMONPRIOR_RPC", url)
        for said in (train(), command("audit", tmp_path / "runs" / "over")):
            assert (said[0], said[2].count("\n")) == (2, 1)
            assert re.search(
                r"no contract at 0x[0-9a-f]{40} on chain 31337: expected Token|nothing answers at", said[2]
            )


@pytest.mark.parametrize(("arguments", "words"), [
    ([], "name a run folder, or --chain, --contracts"),
    (["--chain", "31337", "--contracts", "0x11", "--opening", "11" * 32], "name a run folder, or --chain, --contracts"),
    (["--chain", "31337", "--contracts", ",".join(["0x" + "11" * 20] * 6), "--opening", "zz"], "not hexadecimal"),
    (["--chain", "31337", "--contracts", ",".join(["0x" + "11" * 20] * 6), "--opening", "11" * 32],
     "a ledger of kind rpc needs a node: set COMMONPRIOR_RPC"),
])  # fmt: skip
def test_an_audit_without_what_it_needs_is_one_sentence(arguments, words, command, monkeypatch):
    monkeypatch.delenv("COMMONPRIOR_RPC", raising=False)
    code, _, err = command("audit", *arguments)
    assert (code, err.count("\n")) == (2, 1)
    assert words in err


def test_a_node_of_another_chain_is_refused(train, tmp_path, monkeypatch):
    with anvil("--chain-id", "7") as url:
        monkeypatch.setenv("COMMONPRIOR_RPC", url)
        code, _, err = train()
    assert (code, err.count("\n")) == (2, 1)
    assert "is on chain 7, expected 31337: name a node of that chain" in err
    assert not (tmp_path / "runs" / "over" / "journal.cbor").exists()
