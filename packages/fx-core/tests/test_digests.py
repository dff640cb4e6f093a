"""Digests of files: whole, and by blocks."""

import hashlib

import pytest
from fx_core.digests import BLOCK, digest_by_blocks, digest_file, has_digest
from fx_core.errors import DamagedFilesError
from fx_core.files import AtomicDirectory, read_manifest, verify_files

CONTENT = b"a" * BLOCK + b"b" * BLOCK + b"end"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    return path


def sha256(*parts):
    return hashlib.sha256(b"".join(parts))


def test_a_digest_by_blocks_is_that_of_their_digests(file):
    blocks = [sha256(CONTENT[start : start + BLOCK]).digest() for start in (0, BLOCK, 2 * BLOCK)]
    assert digest_by_blocks(file) == "sha256-4m:" + sha256(*blocks).hexdigest()
    assert digest_file(file) == "sha256:" + sha256(CONTENT).hexdigest()


@pytest.mark.parametrize("size", [0, 1, BLOCK])
def test_what_is_one_block_has_the_usual_digest(file, size):
    file.write_bytes(CONTENT[:size])
    assert digest_by_blocks(file) == digest_file(file) == "sha256:" + sha256(CONTENT[:size]).hexdigest()


def test_the_kind_of_a_digest_says_how_it_is_compared(file):
    whole, blocks = digest_file(file), digest_by_blocks(file)
    assert has_digest(file, whole)
    assert has_digest(file, blocks)
    kind, _, value = blocks.partition(":")
    assert not any(has_digest(file, other) for other in (f"sha256:{value}", f"sha512:{value}", value, f"{kind}:"))
    # Blocks in another order, one less, and a byte of the last one.
    for other in (b"b" * BLOCK + b"a" * BLOCK + b"end", CONTENT[: 2 * BLOCK], CONTENT[:-1] + b"D"):
        file.write_bytes(other)
        assert not has_digest(file, blocks)
        assert not has_digest(file, whole)


def test_the_digests_of_blocks_are_no_file_of_the_same_digest(file, tmp_path):
    blocks = [sha256(CONTENT[start : start + BLOCK]).digest() for start in (0, BLOCK, 2 * BLOCK)]
    forged = tmp_path / "forged"
    forged.write_bytes(b"".join(blocks))
    assert digest_file(forged).partition(":")[2] == digest_by_blocks(file).partition(":")[2]
    assert not has_digest(forged, digest_by_blocks(file))


def test_manifests_may_have_digests_of_both_kinds(tmp_path):
    path = tmp_path / "thing"
    with AtomicDirectory(path, format="demo", version=1, digest=digest_by_blocks) as new:
        (new.directory / "large").write_bytes(CONTENT)
        (new.directory / "small").write_bytes(b"small")
    manifest = read_manifest(path, format="demo", version=1)
    verify_files(path, manifest)
    (path / "large").write_bytes(CONTENT[:-1] + b"D")
    with pytest.raises(DamagedFilesError, match="large: the content has changed"):
        verify_files(path, manifest)
