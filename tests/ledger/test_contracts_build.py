"""The artefacts that the product carries are what the sources compile to, and fit where contracts go."""

import importlib.util
import json
from pathlib import Path

import pytest

from commonprior.ledger.contract import CONTRACTS, artefact

ROOT = Path(__file__).parents[2]
MOST_BYTES = 24_576
"""Of a contract's code (EIP-170)."""


@pytest.fixture(scope="module")
def build():
    pytest.importorskip("vyper", reason="no vyper: the artefacts cannot be compiled again")
    spec = importlib.util.spec_from_file_location("contracts_build", ROOT / "contracts" / "build.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("name", CONTRACTS)
def test_an_artefact_is_what_its_sources_compile_to(build, name):
    assert json.loads((build.THERE / f"{name}.json").read_text()) == json.loads(json.dumps(build.artefact(name)))


def test_check_says_which_differ_and_fails(build, monkeypatch, capsys, tmp_path):
    for name in CONTRACTS:
        (tmp_path / f"{name}.json").write_text((build.THERE / f"{name}.json").read_text())
    (tmp_path / "Token.json").write_text("{}")
    known = {name: json.loads((build.THERE / f"{name}.json").read_text()) for name in CONTRACTS}
    monkeypatch.setattr(build, "artefact", known.get)
    monkeypatch.setattr(build, "THERE", tmp_path)
    monkeypatch.setattr("sys.argv", ["build.py", "--check"])
    assert build.main() == 1
    assert capsys.readouterr().out == "6 contracts, Token differ\n"
    assert (tmp_path / "Token.json").read_text() == "{}"
    monkeypatch.setattr("sys.argv", ["build.py"])
    assert build.main() == 0
    monkeypatch.setattr("sys.argv", ["build.py", "--check"])
    assert build.main() == 0


@pytest.mark.parametrize("name", CONTRACTS)
def test_a_contract_fits_where_contracts_go(name):
    size = artefact(name)._runtime[0]
    immutables = 32 * 8  # more than any of them fixes when it is made
    assert 0 < size + immutables <= MOST_BYTES


def test_every_contract_s_sources_are_named_with_their_hashes(build):
    for name in CONTRACTS:
        table = json.loads((build.THERE / f"{name}.json").read_text())
        assert table["sources"] == build.sources(name)
        assert f"{name}.vy" in table["sources"]
