"""A bundle holds what an auditor needs and nothing that a site keeps to itself; one from a stranger does no harm."""

import json
import shutil
import zipfile

import pytest

from commonprior import auditing
from commonprior.ledger.audit import audit


@pytest.fixture
def run(finished_run, tmp_path):
    """A copy of a finished run of three rounds."""
    shutil.copytree(finished_run, tmp_path / "run")
    return tmp_path / "run"


def test_a_bundle_is_all_that_an_audit_needs(command, run, tmp_path):
    code, out, err = command("bundle", run, tmp_path / "my.zip")
    assert (code, err) == (0, "")
    head = audit(run).head.hex()
    shutil.rmtree(run)
    code, out, err = command("audit", tmp_path / "my.zip", "--expect-head", head, "--json", tmp_path / "a.json")
    assert (code, err) == (0, "")
    assert "holds: 3 rounds, 3 priors recomputed from their sums, 0 sums from sealed bytes" in " ".join(out.split())
    assert "holds: 3 rounds on embedded chain" in out


def test_a_bundle_carries_sealed_bytes_where_they_are_asked_for(command, run, tmp_path):
    assert command("bundle", run, tmp_path / "my.zip", "--sealed")[0] == 0
    shutil.rmtree(run)
    out = command("audit", tmp_path / "my.zip", "--json", tmp_path / "a.json")[1]
    assert "3 sums from sealed bytes" in out
    assert json.loads((tmp_path / "a.json").read_text())["resummed"] == 3


def test_sealed_bytes_that_were_not_kept_are_no_bundle(command, run, tmp_path):
    shutil.rmtree(run / "sealed")
    code, _, err = command("bundle", run, tmp_path / "my.zip", "--sealed")
    assert code == 2
    assert "sealed: the run kept no sealed bytes; leave --sealed out" in err
    assert not (tmp_path / "my.zip").exists()


def test_attack_looking_for_secrets_in_a_bundle(command, run, tmp_path):
    """No file of a site or of the coordinator, and none of their private keys in any other."""
    secrets = [
        bytes.fromhex(value) for file in run.rglob("identity.json") for value in json.loads(file.read_text()).values()
    ]
    assert len(secrets) == 2 * 5
    assert command("bundle", run, tmp_path / "my.zip")[0] == 0
    with zipfile.ZipFile(tmp_path / "my.zip") as packed:
        names = sorted(packed.namelist())
        data = b"".join(packed.read(name) for name in names)
    assert names == ["chain.cbor", "checkpoints/000000.safetensors", "journal.cbor", "prior.safetensors", "recipe.toml",
                     "sums/000001.bin", "sums/000002.bin", "sums/000003.bin"]  # fmt: skip
    assert not any(secret in data or secret.hex().encode() in data for secret in secrets)


def repacked(source, target, **others):
    """A bundle with other files in it as well: {name: bytes}."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            new.writestr(name, old.read(name))
        for name, data in others.items():
            new.writestr(name, data)


@pytest.mark.parametrize("name", ["../outside.txt", "/tmp/outside.txt", "sums/../../outside.txt", "sites/x/log.cbor"])
def test_attack_a_bundle_that_reaches_out_of_its_folder(name, command, run, tmp_path):
    command("bundle", run, tmp_path / "my.zip")
    repacked(tmp_path / "my.zip", tmp_path / "bad.zip", **{name: b"out"})
    before = sorted(tmp_path.rglob("*"))
    code, _, err = command("audit", tmp_path / "bad.zip")
    assert (code, err.count("\n")) == (2, 1)
    assert f"bad.zip: holds {name!r}, which no bundle does: ask for another one" in err
    assert sorted(tmp_path.rglob("*")) == before


def test_attack_a_small_bundle_that_unpacks_to_a_very_large_one(command, run, tmp_path, monkeypatch):
    command("bundle", run, tmp_path / "my.zip")
    repacked(tmp_path / "my.zip", tmp_path / "bad.zip", **{"sums/000004.bin": bytes(1 << 22)})
    assert (tmp_path / "bad.zip").stat().st_size < (tmp_path / "my.zip").stat().st_size + 10_000
    monkeypatch.setattr(auditing, "MOST_BYTES", 1 << 20)
    code, _, err = command("audit", tmp_path / "bad.zip")
    assert code == 2
    assert err.startswith(f"error: {tmp_path / 'bad.zip'}: would unpack to 4,")
    assert err.endswith("bytes, at most 1,048,576\n")


@pytest.mark.parametrize("spoil", ["size", "data", "encrypted", "text"])
def test_attack_a_bundle_whose_own_directory_lies(spoil, command, run, tmp_path):
    """A size that is not what comes out, packed bytes that are none, a password."""
    command("bundle", run, tmp_path / "my.zip")
    data = bytearray((tmp_path / "my.zip").read_bytes())
    entry = data.rindex(b"PK\x01\x02")  # the directory's last file
    local = data.rindex(b"PK\x03\x04")
    match spoil:
        case "size":
            data[entry + 24 : entry + 28] = (3).to_bytes(4, "little")
        case "data":
            data[local + 60 : local + 70] = b"\xff" * 10
        case "encrypted":
            data[entry + 8] |= 1
            data[local + 6] |= 1
        case "text":
            data = bytearray(b"no zip at all")
    (tmp_path / "bad.zip").write_bytes(data)
    code, _, err = command("audit", tmp_path / "bad.zip")
    assert (code, err.count("\n")) == (2, 1)
    assert "bad.zip: is not a bundle: `commonprior bundle RUN FILE.zip` makes one" in err


def test_a_bundle_is_not_written_over_another_file_nor_of_no_run(command, run, tmp_path):
    (tmp_path / "mine.zip").write_text("mine")
    assert "is there already; name another file" in command("bundle", run, tmp_path / "mine.zip")[2]
    assert (tmp_path / "mine.zip").read_text() == "mine"
    assert "no record here; name a run folder" in command("bundle", tmp_path, tmp_path / "none.zip")[2]
    assert not (tmp_path / "none.zip").exists()
    assert "no such file" in command("audit", tmp_path / "none.zip")[2]
