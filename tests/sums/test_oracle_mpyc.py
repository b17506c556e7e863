"""Sums by MPyC, a general framework for multiparty computation: three processes that share, add and open."""

import json
import socket
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("mpyc", reason="mpyc is not installed: install commonprior[oracle]")

from mpyc import finfields, thresha

from commonprior.session import Encoding
from commonprior.sums._committee_field import FIELD, HALF, WORD
from commonprior.sums.committee import Committee
from commonprior.sums.masked import Masked

PROGRAM = """
import json, sys
from mpyc.runtime import mpc

async def main():
    field, rows = mpc.SecFld(2**31 - 1), json.loads(sys.argv[1])
    async with mpc:
        shared = mpc.input([field(value) for value in rows[mpc.pid]])
        total = await mpc.output([sum(column[1:], column[0]) for column in zip(*shared)])
    print(json.dumps([int(value) for value in total]))

mpc.run(main())
"""


def free_port():
    """Return the first of a few ports that nobody listens on: each party takes one, from this one up."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return min(listener.getsockname()[1], 65_000)


def test_masked_committee_and_mpyc_come_to_the_same_sum(play, session, tmp_path):
    encoding = Encoding(3, 0, HALF // 3, 4)
    made = session(n=3, dropouts=0, length=40, encoding=encoding)
    attempts = [play(made, play={"sum": kind}) for kind in (Masked(), Committee())]
    rows = [vector.tolist() for vector in attempts[0].vectors]
    (Path(tmp_path) / "sum.py").write_text(PROGRAM)
    command = [sys.executable, "sum.py", json.dumps(rows), "-M3", "-B", str(free_port()), "--no-log"]
    out = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert out.returncode == 0, out.stderr
    total = json.loads(out.stdout)
    assert min(total) >= 0 and max(total) < FIELD  # noqa: PT018
    signed = [value - FIELD if value > HALF else value for value in total]
    for attempt in attempts:
        assert attempt.finish().value.tolist() == signed == np.sum(rows, 0).tolist()


def test_mpyc_opens_the_shares_that_aggregators_hold_and_send(play, session):
    made = session(n=6, dropouts=1, length=9, encoding=Encoding(6, 0, HALF // 6, 4))
    attempt = play(made, play={"sum": Committee(threshold=2)}).until("sums")
    attempt.hold("sums")
    field = finfields.GF(FIELD)

    def opened(rows):
        """What the first three of the aggregators' rows [d] give, by seat."""
        points = [(seat + 1, [int(value) for value in row]) for seat, row in list(rows.items())[:3]]
        return [int(value) % FIELD for value in thresha.recombine(field, points)]

    sums = {s: np.frombuffer(attempt.body(frame)["sum"], WORD) for s, frame in attempt.heard["sums"].items()}
    for seats in ((0, 1, 2), (1, 3, 5), (5, 4, 2)):
        got = opened({seat: sums[seat] for seat in seats})
        assert got == (np.sum(attempt.vectors, 0) % FIELD).tolist()


def test_the_committee_s_polynomials_take_mpyc_s_shares():
    """Shares that MPyC dealt open with our decoder, one of them wrong."""
    from commonprior.sums._committee_decode import decode

    field, secret = finfields.GF(FIELD), [0, 1, 7, HALF, FIELD - 1]
    dealt = thresha.random_split(field, secret, 2, 7)
    shares = {seat: np.array([int(value) for value in row], WORD) for seat, row in enumerate(dealt)}
    shares[4] = (shares[4] + 1) % FIELD
    found = decode(shares, 2)
    assert found is not None
    assert found.value.tolist() == secret
    assert set(found.liars) == {4}
