# pragma version 0.4.3
"""
@title Merkle trees of RFC 6962 over SHA-256
@notice A leaf is 256 numbers, the last one what is left. Leaves and nodes are hashed apart (0x00, 0x01), and a proof is
    read with the size of its tree (RFC 9162 section 2.1.3.2): a node cannot pass for a leaf, nor one size for another.
"""

CHUNK: constant(uint256) = 256
DEPTH: constant(uint256) = 20  # of a tree of 2^28 numbers
SMALL: constant(uint256) = 8  # leaves of a tree that is built here: 2,048 numbers


@internal
@pure
def leaf(chunk: Bytes[2048]) -> bytes32:
    """
    @notice Return a leaf's hash.
    """
    return sha256(concat(b"\x00", chunk))


@internal
@pure
def root_of(delta: Bytes[2048]) -> bytes32:
    """
    @notice Return the root of a whole small vector.
    """
    level: DynArray[bytes32, SMALL] = []
    chunks: uint256 = (len(delta) + 255) // CHUNK
    assert chunks > 0, "M: empty"
    for i: uint256 in range(chunks, bound=SMALL):
        level.append(self.leaf(slice(delta, i * CHUNK, min(CHUNK, len(delta) - i * CHUNK))))
    for _: uint256 in range(3):
        if len(level) == 1:
            break
        above: DynArray[bytes32, SMALL] = []
        for i: uint256 in range((len(level) + 1) // 2, bound=SMALL):
            if 2 * i + 1 < len(level):
                above.append(sha256(concat(b"\x01", level[2 * i], level[2 * i + 1])))
            else:
                above.append(level[2 * i])
        level = above
    return level[0]


@internal
@pure
def root_from(leaf: bytes32, index: uint256, size: uint256, proof: DynArray[bytes32, DEPTH]) -> bytes32:
    """
    @notice Return the root that an inclusion proof leads to; revert unless it has just the length it must have.
    """
    assert index < size, "M: index"
    place: uint256 = index
    last: uint256 = size - 1
    node: bytes32 = leaf
    for step: bytes32 in proof:
        assert last != 0, "M: proof too long"
        if place & 1 == 1 or place == last:
            node = sha256(concat(b"\x01", step, node))
            if place & 1 == 0:
                for _: uint256 in range(DEPTH):
                    if place & 1 == 1 or place == 0:
                        break
                    place >>= 1
                    last >>= 1
        else:
            node = sha256(concat(b"\x01", node, step))
        place >>= 1
        last >>= 1
    assert last == 0, "M: proof too short"
    return node
