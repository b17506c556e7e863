"""Merkle roots and proofs: the contract, the client and a tree written by the words of RFC 6962 say the same."""

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from commonprior.errors import LedgerError
from commonprior.ledger import merkle
from commonprior.ledger.embedded import Embedded

from ._compiled import Deployed

sizes = st.integers(1, 300) | st.sampled_from([1, 2, 3, 4, 7, 8, 9, 15, 16, 17, 255, 256, 257, 1024])


@pytest.fixture(scope="module")
def inside():
    return Deployed(Embedded(None), "Inside")


def tree_hash(leaves):
    """MTH of RFC 6962, section 2.1."""
    if len(leaves) == 1:
        return sha256(b"\x00" + leaves[0]).digest()
    k = 1 << (len(leaves) - 1).bit_length() - 1  # the largest power of two below n
    return sha256(b"\x01" + tree_hash(leaves[:k]) + tree_hash(leaves[k:])).digest()


def path(m, leaves):
    """PATH of RFC 6962, section 2.1.1."""
    if len(leaves) == 1:
        return []
    k = 1 << (len(leaves) - 1).bit_length() - 1
    if m < k:
        return [*path(m, leaves[:k]), tree_hash(leaves[k:])]
    return [*path(m - k, leaves[k:]), tree_hash(leaves[:k])]


def vector(size, seed=0, last=256):
    """The bytes of a vector of `size` leaves."""
    block = b"".join(sha256(f"{seed} {i}".encode()).digest() * 8 for i in range(size))
    return block[: 256 * (size - 1) + last]


def test_the_empty_leaf_and_the_known_tree_are_those_of_the_certificate_transparency_project():
    """Test vectors of google/certificate-transparency: MerkleTreeTest, eight inputs."""
    inputs = [bytes.fromhex(x) for x in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657",
                                         "606162636465666768696a6b6c6d6e6f")]  # fmt: skip
    roots = {1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
             2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
             3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
             8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328"}  # fmt: skip
    for size, root in roots.items():
        assert tree_hash(inputs[:size]).hex() == root
    assert merkle.leaf(b"").hex() == roots[1]


@settings(deadline=None, max_examples=60)
@given(sizes, st.integers(0, 2**16), st.integers(1, 256), st.data())
def test_root_and_proof_are_the_standard_s(inside, size, seed, last, data):
    whole = vector(size, seed, last)
    leaves = merkle.chunks_of(whole)
    levels = merkle.levels_of(whole)
    assert merkle.root(whole) == tree_hash(leaves)
    index = data.draw(st.integers(0, size - 1))
    proof = merkle.proof(levels, index)
    assert proof == path(index, leaves)
    node = merkle.leaf(leaves[index])
    assert merkle.root_from(node, index, size, proof) == tree_hash(leaves)
    assert inside.read("root_from", node, index, size, proof) == tree_hash(leaves)


@settings(deadline=None, max_examples=40)
@given(st.integers(1, 2048), st.integers(0, 2**16))
def test_a_whole_small_vector_has_the_standard_s_root(inside, length, seed):
    whole = vector(8, seed)[:length]
    assert inside.read("root_of", whole) == merkle.root(whole) == tree_hash(merkle.chunks_of(whole))


def refuses(inside, node, index, size, proof, root):
    """Neither the contract nor the client takes it: no root, or another one."""
    said = merkle.root_from(node, index, size, proof)
    assert said != root
    if said is None:
        with pytest.raises(LedgerError, match="^M: (index|proof too long|proof too short)$"):
            inside.read("root_from", node, index, size, proof)
    else:
        assert inside.read("root_from", node, index, size, proof) == said


@settings(deadline=None, max_examples=60)
@given(sizes, st.data())
def test_a_proof_that_is_not_of_this_place_in_this_tree_is_refused(inside, size, data):
    whole = vector(size)
    leaves, levels, root = merkle.chunks_of(whole), merkle.levels_of(whole), merkle.root(whole)
    index = data.draw(st.integers(0, size - 1))
    node, proof = merkle.leaf(leaves[index]), merkle.proof(levels, index)
    refuses(inside, node, index, size, [*proof, bytes(32)], root)
    refuses(inside, node, index, size, [bytes(32), *proof], root)
    if proof:
        refuses(inside, node, index, size, proof[:-1], root)
        refuses(inside, node, index, size, proof[1:], root)
        at = data.draw(st.integers(0, len(proof) - 1))
        refuses(inside, node, index, size, [*proof[:at], bytes(32), *proof[at + 1 :]], root)
    for other in {0, max(0, index - 1), index + 1, size - 1, size, 2**256 - 1} - {index}:
        refuses(inside, node, other, size, proof, root)


@settings(deadline=None, max_examples=60)
@given(st.integers(2, 300), st.data())
def test_a_node_passes_for_no_leaf(inside, size, data):
    whole = vector(size)
    levels, root = merkle.levels_of(whole), merkle.root(whole)
    index = data.draw(st.integers(0, size // 2 * 2 - 1))  # of those that have a sibling
    above, proof = levels[1][index >> 1], merkle.proof(levels[1:], index >> 1)
    refuses(inside, above, index, size, proof, root)  # shown as a leaf's hash: its proof is a step short
    pair = b"".join(levels[0][index & ~1 : (index | 1) + 1])  # shown as a leaf: leaves and nodes are hashed apart
    refuses(inside, merkle.leaf(pair), index >> 1, (size + 1) // 2, proof, root)


@pytest.mark.parametrize("size", [3, 5, 6, 7, 9, 11, 1000])
def test_another_size_of_the_tree_is_refused_wherever_it_would_need_another_proof(inside, size):
    whole = vector(size)
    levels, root = merkle.levels_of(whole), merkle.root(whole)
    for index in {0, size // 2, size - 1}:
        node, proof = levels[0][index], merkle.proof(levels, index)
        for other in (1, 2, 1 << len(levels), 1 << len(levels) + 4):
            if len(path_shape(index, other)) != len(path_shape(index, size)):
                refuses(inside, node, index, other, proof, root)


def path_shape(index, size):
    """On which side each step of a proof stands; None where there is no such place."""
    if size == 1:
        return []
    k = 1 << (size - 1).bit_length() - 1
    return [*path_shape(index, k), 0] if index < k else [*path_shape(index - k, size - k), 1]
