"""Flower's SecAgg+ beside ours: the functions of its client mod, and what its server's workflow computes of them.

The server's steps are inside a workflow that wants a grid of nodes; here they are called one by one, in its order and
with its functions, nobody dropping out. Transport, serialisation of messages and its simulation are left out. Times are
processor time.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import os
import statistics
import time
from typing import Any, NamedTuple

import numpy as np
from _rows import Row
from _sums import at_most

FLOWER = "flwr SecAgg+"
FASTER, FEWER = 0.2, 0.5
"""What is asked of ours against theirs: a fifth of the seconds, half of the bytes."""


class Round(NamedTuple):
    clients: float
    server: float
    collecting: float
    vector: int


def flower(who: str, seconds: float, vector: int, n: int, d: int, repeats: int) -> list[Row]:
    """Return rows about n clients with d numbers each, beside `who`, whose whole sum took so many seconds and bytes."""
    os.environ["FLWR_TELEMETRY_ENABLED"] = "0"
    os.environ["FLWR_DISABLE_UPDATE_CHECK"] = "1"
    if importlib.util.find_spec("flwr") is None:
        return [Row(FLOWER, "SecAgg+ client and server functions", None, "skipped: not installed")]
    name = f"{FLOWER} {importlib.import_module('importlib.metadata').version('flwr')}"
    rounds = [hold_flower(n, d) for _ in range(repeats + 1)][1:]
    clients, server, collecting = (statistics.median(values) for values in list(zip(*rounds, strict=True))[:3])
    theirs, case = rounds[0].vector, f"n={n}, d={d:,}:"
    return [
        Row(name, f"{case} work of the {n} clients, no signatures", clients, "s"),
        Row(name, f"{case} work of the server", server, "s"),
        Row(name, f"{case} one client's masked phase", collecting * 1e3, "ms"),
        Row(name, f"{case} vector up", theirs / d, "bytes/parameter"),
        at_most(FASTER, who, f"{case} whole sum, signed, over Flower's clients and server",
                seconds / (clients + server), "times"),
        at_most(FEWER, who, f"{case} bytes of the vector over Flower's", vector / theirs, "times"),
    ]  # fmt: skip


def hold_flower(n: int, d: int) -> Round:
    """Take the clients through SecAgg+'s stages, then the server through its sum."""
    mod = importlib.import_module("flwr.client.mod.secure_aggregation.secaggplus_mod")
    update = importlib.import_module("flwr.common").ndarrays_to_parameters([np.zeros(d, np.float32)])
    key, nodes = mod.Key, range(1, n + 1)
    setup = {
        key.SAMPLE_NUMBER: n, key.SHARE_NUMBER: n, key.THRESHOLD: n - n // 3, key.CLIPPING_RANGE: 8.0,
        key.TARGET_RANGE: 1 << 22, key.MOD_RANGE: 1 << 32, key.MAX_WEIGHT: 1000.0,
    }  # fmt: skip
    begun = time.process_time()
    states = {node: mod.SecAggPlusState() for node in nodes}
    keys: dict[str, list[bytes]] = {}
    for node, state in states.items():
        state.nid = node
        answer = mod._setup(state, setup)
        keys[str(node)] = [answer[key.PUBLIC_KEY_1], answer[key.PUBLIC_KEY_2]]
    sealed: dict[int, dict[int, bytes]] = {node: {} for node in nodes}
    for node, state in states.items():
        answer = mod._share_keys(state, keys)
        for receiver, ciphertext in zip(answer[key.DESTINATION_LIST], answer[key.CIPHERTEXT_LIST]):
            sealed[receiver][node] = ciphertext
    start, masked = time.process_time(), []
    for node, state in states.items():
        relayed = {key.CIPHERTEXT_LIST: list(sealed[node].values()), key.SOURCE_LIST: list(sealed[node])}
        masked.append(mod._collect_masked_vectors(state, relayed, n, update)[key.MASKED_PARAMETERS])
    collecting = (time.process_time() - start) / n
    shares: dict[int, list[bytes]] = {node: [] for node in nodes}
    for state in states.values():
        answer = mod._unmask(state, {key.ACTIVE_NODE_ID_LIST: list(nodes), key.DEAD_NODE_ID_LIST: []})
        for owner, share in zip(answer[key.NODE_ID_LIST], answer[key.SHARE_LIST]):
            shares[owner].append(share)
    clients = time.process_time() - begun
    server = add_up(masked, shares)
    return Round(clients, server, collecting, sum(map(len, masked[0])))


def add_up(masked: list[list[bytes]], shares: dict[int, list[bytes]]) -> float:
    """Return the seconds of the server: sum, secrets from shares, masks expanded and taken off, numbers back."""
    flow: Any = importlib.import_module("flwr.server.workflow.secure_aggregation.secaggplus_workflow")
    start = time.process_time()
    vectors = [[flow.bytes_to_ndarray(part) for part in one] for one in masked]
    total = flow.parameters_mod(functools.reduce(flow.parameters_addition, vectors), 1 << 32)
    for held in shares.values():
        mask = flow.pseudo_rand_gen(flow.combine_shares(held), 1 << 32, flow.get_parameters_shape(total))
        total = flow.parameters_subtraction(total, mask)
    _, total = flow.factor_extract(flow.parameters_mod(total, 1 << 32))
    flow.dequantize(total, 8.0, 1 << 22)
    return time.process_time() - start
