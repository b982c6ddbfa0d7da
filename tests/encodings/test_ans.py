"""Codes under an asymmetric numeral system: as short as the entropy says, and back bit for bit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from workbench.encodings import Ans, Archive, ArchiveError, EncodingError, Entropy, Packed, load_archive, unpack
from workbench.encodings.archive import VERSION

GENERATOR = np.random.default_rng(0)
SOURCES = {
    "normal, 8 bits": (np.clip(np.rint(GENERATOR.normal(128, 20, 100_000)), 0, 255), 8),
    "normal, 4 bits": (np.clip(np.rint(GENERATOR.normal(8, 2, 100_000)), 0, 15), 4),
    "even, 3 bits": (GENERATOR.integers(0, 8, 100_000), 3),
    "90 % zeros, 4 bits": (GENERATOR.integers(1, 16, 100_000) * (GENERATOR.random(100_000) < 0.1), 4),
    "one in a thousand, 1 bit": (GENERATOR.random(100_000) < 0.001, 1),
}


def ans(codes: np.ndarray, bits: int) -> Ans:
    return Ans(Packed(np.asarray(codes, np.uint8), bits))


@pytest.mark.parametrize("source", SOURCES)
def test_bits_are_within_half_a_percent_of_the_entropy(source: str) -> None:
    codes, bits = SOURCES[source]
    coded = ans(codes, bits)
    _, counts = np.unique(codes, return_counts=True)
    shares = counts / counts.sum()
    bound = -(counts * np.log2(shares)).sum() / 8
    table = 2 + int(codes.max()) - int(codes.min()) + 1
    assert coded.entropy_bytes == pytest.approx(bound)
    assert bound - 1 < coded.nbytes - table <= 1.005 * bound + 5
    back = unpack(coded.describe(), coded.shape, coded.pack())
    assert np.array_equal(back.decode(), codes)


@pytest.mark.parametrize("size", [1, 7, 500, 20_000])
def test_the_size_is_known_before_anything_is_coded(size: int) -> None:
    for codes, bits in SOURCES.values():
        for joined in (False, True) if bits in (1, 2, 4) else (False,):
            coded = Ans(Packed(np.asarray(codes[:size], np.uint8), bits), joined)
            known = coded.nbytes
            assert "_bytes" not in coded.__dict__
            assert len(coded.pack()) == known == coded.nbytes
            assert 1 <= known - len(coded.pack()[:-1].rstrip(b"\0")) <= 6


def test_where_a_symbol_is_nearly_certain_huffman_pays_whole_bits_and_ans_does_not() -> None:
    codes, bits = SOURCES["90 % zeros, 4 bits"]
    huffman = min(Entropy(Packed(np.asarray(codes, np.uint8), width)).nbytes for width in (4, 8))
    assert ans(codes, bits).nbytes < 0.9 * huffman


@pytest.mark.parametrize("codes", [[], [7], [7] * 5000, [0, 255], list(range(256)) * 3])
def test_few_values_or_one_value_round_trip(codes: list[int]) -> None:
    coded = ans(np.array(codes, np.uint8), 8)
    assert np.array_equal(unpack(coded.describe(), coded.shape, coded.pack()).decode(), codes)
    assert len(set(codes)) != 1 or coded.nbytes <= 4


def test_bytes_written_once_are_read_for_ever() -> None:
    """What another release of the coder must still make of a file; the values are not those of this run."""
    stored = bytes.fromhex("0109c0d0ddcacacac0caca7e0139e9d4dae6e2c5713999609c")
    codes = np.array([int(digit) for digit in "314159265358979323846264338327"], np.uint8)
    assert np.array_equal(unpack({"kind": "ans", "bits": 4}, codes.shape, stored).decode(), codes)
    filled = bytes.fromhex("0109c0d0ddcacacac0caca7e0139e9d4dae6e2c5713999609c0001")
    assert np.array_equal(unpack({"kind": "ans", "bits": 4, "filled": True}, codes.shape, filled).decode(), codes)
    assert ans(codes, 4).pack() == filled
    old = unpack({"kind": "ans", "bits": 4}, codes.shape, stored)
    assert (old.pack(), old.nbytes, old.describe()) == (stored, len(stored), {"kind": "ans", "bits": 4})


@pytest.mark.parametrize("joined", [False, True])
def test_what_is_not_filled_up_is_read_as_it_was_written(joined: bool) -> None:
    codes = np.asarray(SOURCES["normal, 4 bits"][0][:500], np.uint8)
    old = Ans(Packed(codes, 4), joined, filled=False)
    assert old.nbytes == len(old.pack()) < Ans(Packed(codes, 4), joined).nbytes
    back = unpack(old.describe(), old.shape, old.pack())
    assert np.array_equal(back.decode(), codes)
    assert (back.pack(), back.describe()) == (old.pack(), old.describe())


def test_any_damaged_byte_is_refused_in_a_sentence_or_leaves_the_values_alone() -> None:
    codes, bits = SOURCES["normal, 4 bits"]
    codes = codes[:500]
    coded = ans(codes, bits)
    data, noticed = coded.pack(), 0
    for place in range(len(data)):
        for flip in (0x01, 0x80, 0xFF):
            wrong = bytearray(data)
            wrong[place] ^= flip
            try:
                back = unpack(coded.describe(), coded.shape, bytes(wrong)).decode()
            except EncodingError:
                noticed += 1
            else:  # a table that says the same shares, or a symbol of no use
                assert np.array_equal(back, codes)
    assert noticed > 2.9 * len(data)


@pytest.mark.parametrize("data", [b"", b"\x00", b"\x05\x02", b"\x00\xff", b"\x00\x01\x00\x00", b"\x00\x01\xff\xff"])
def test_bytes_that_are_no_code_are_refused(data: bytes) -> None:
    with pytest.raises(EncodingError, match="damaged"):
        unpack({"kind": "ans", "bits": 4}, (1000,), data + b"\x01\x02\x03\x04" if len(data) > 3 else data)
    with pytest.raises(EncodingError, match="no table of frequencies"):
        unpack({"kind": "ans", "bits": 16}, (2,), b"\x00\x01\xff\xff")


def test_codes_of_16_bits_are_refused() -> None:
    with pytest.raises(EncodingError, match="too many values"):
        Ans(Packed(np.zeros(3, np.uint16), 16))


def test_a_file_says_the_first_format_that_knows_what_is_in_it(tmp_path: Path) -> None:
    old = Archive({"weight": Packed(np.arange(16, dtype=np.uint8), 4)})
    new = Archive({"weight": ans(np.arange(16), 4)})
    assert old.to_bytes()[4] == 1
    assert new.to_bytes()[4] == 4
    read = Archive({"weight": Ans(Packed(np.arange(16, dtype=np.uint8), 4), filled=False)})
    assert read.to_bytes()[4] == 2
    assert Archive.from_bytes(read.to_bytes()).to_bytes() == read.to_bytes()
    path = new.save(tmp_path / "new.wbz")
    assert np.array_equal(load_archive(path).decode()["weight"], np.arange(16))
    path.write_bytes(new.to_bytes()[:4] + bytes([VERSION + 1]) + new.to_bytes()[5:])
    with pytest.raises(ArchiveError, match="newer version"):
        load_archive(path)
    damaged = bytearray(new.to_bytes())
    damaged[-20] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ArchiveError, match="damaged"):
        load_archive(path)
