"""Digests are the same however the bytes come: in pieces, as holes, or read from a file."""

from __future__ import annotations

import os
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from fusestore.roots.hashing import BLOCK_BYTES, Hasher, hash_fd, tagged

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.timeout(60)


@given(st.lists(st.binary(max_size=100)))
def test_pieces_hash_as_their_whole(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    for algorithm, digest in (("blake3", blake3(whole).digest()), ("sha256", sha256(whole).digest())):
        hasher = Hasher(algorithm)
        for piece in pieces:
            hasher.update(piece)
        assert (hasher.digest(), hasher.size) == (digest, len(whole))


def test_a_hole_hashes_as_zeros() -> None:
    hasher = Hasher("sha256")
    hasher.update_zeros(BLOCK_BYTES * 2 + 3)
    assert hasher.digest() == sha256(bytes(BLOCK_BYTES * 2 + 3)).digest()
    assert hasher.size == BLOCK_BYTES * 2 + 3


def test_a_file_is_hashed_from_its_start_and_its_offset_stays(tmp_path: Path) -> None:
    content = os.urandom(BLOCK_BYTES * 2 + 9)
    (tmp_path / "file").write_bytes(content)
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    os.lseek(fd, 5, os.SEEK_SET)
    seen: list[int] = []
    assert hash_fd(fd, "blake3", seen.append) == blake3(content).digest()
    assert seen == [BLOCK_BYTES, BLOCK_BYTES * 2, len(content)]
    assert os.lseek(fd, 0, os.SEEK_CUR) == 5
    os.close(fd)


def test_an_unknown_algorithm_is_an_error() -> None:
    with pytest.raises(KeyError):
        Hasher("md5")


def test_a_tagged_hash_says_its_algorithm() -> None:
    assert tagged("blake3", b"\x01\xff") == "blake3:01ff"
    assert tagged("blake3", b"") == ""
