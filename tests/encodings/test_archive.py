"""The packed file: what goes in comes out, to the bit, and nothing damaged is ever believed."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.encodings.strategies import encodings
from workbench.encodings import Archive, ArchiveError, encode_grid, encode_values, load_archive
from workbench.encodings.archive import DIGEST_BYTES, MAGIC, PREAMBLE, VERSION, _digest
from workbench.encodings.base import EncodingError, unpack
from workbench.encodings.entropy import compress_text, decompress_bytes
from workbench.errors import WorkbenchError


def small_archive() -> Archive:
    generator = np.random.default_rng(0)
    mask = generator.random((32, 16, 3, 3)) < 0.2
    codes = generator.integers(0, 16, mask.shape, np.uint8)
    tensors = {
        "conv.weight": encode_grid(codes, 4, generator.random(32), 8, 0, mask),
        "bn.weight": encode_values(generator.standard_normal(32).astype(np.float32)),
        "bn.num_batches_tracked": encode_values(np.array(7)),
        "fc.weight": encode_values(generator.standard_normal((10, 32)).astype(np.float32), type="bfloat16"),
    }
    return Archive(
        tensors,
        {"name": "small", "origin": "zoo", "architecture": "small"},
        [{"prune": {"ratio": 0.8}}, {"quantize": {"bits": 4}}],
        [{"keep": {"layer": "conv", "channels": [0, 1, 5]}}],
        {"note": "größer"},
    )


def forge(data: bytes, change) -> bytes:
    """Change the header of an archive and make sizes and checksum right again, as an attacker would."""
    _, version, size, _ = PREAMBLE.unpack(data[: PREAMBLE.size])
    header = json.loads(decompress_bytes(data[PREAMBLE.size : PREAMBLE.size + size], 1 << 20))
    header = change(header) or header
    text = compress_text(json.dumps(header).encode())
    blobs = data[PREAMBLE.size + size : -DIGEST_BYTES]
    total = PREAMBLE.size + len(text) + len(blobs) + DIGEST_BYTES
    body = PREAMBLE.pack(MAGIC, version, len(text), total) + text + blobs
    return body + _digest(body)


def test_everything_comes_back_to_the_bit(tmp_path) -> None:
    archive = small_archive()
    again = load_archive(archive.save(tmp_path / "x.wbz"))
    assert (again.model, again.recipe, again.edits, again.metadata) == (
        archive.model,
        archive.recipe,
        archive.edits,
        archive.metadata,
    )
    assert list(again.tensors) == list(archive.tensors)
    for name, values in archive.decode().items():
        decoded = again.tensors[name].decode()
        assert decoded.dtype == values.dtype
        assert decoded.shape == values.shape
        assert decoded.tobytes() == values.tobytes()
    assert again.entropy_bytes == archive.entropy_bytes


def test_nbytes_equals_bytes_on_disk(tmp_path) -> None:
    for archive in (small_archive(), Archive({})):
        expected = archive.nbytes
        path = archive.save(tmp_path / "x.wbz")
        assert expected == path.stat().st_size == load_archive(path).nbytes


def test_identical_inputs_give_identical_bytes() -> None:
    data = small_archive().to_bytes()
    assert data == small_archive().to_bytes() == Archive.from_bytes(data).to_bytes()


@settings(deadline=None, max_examples=100)
@given(st.dictionaries(st.text(max_size=9), encodings(), max_size=6))
def test_any_tensors_under_any_names_round_trip(tensors) -> None:
    archive = Archive(tensors)
    data = archive.to_bytes()
    again = Archive.from_bytes(data)
    assert len(data) == archive.nbytes
    assert again.to_bytes() == data
    assert {n: e.decode().tobytes() for n, e in again.tensors.items()} == {
        n: e.decode().tobytes() for n, e in tensors.items()
    }


def test_a_resnet20_costs_less_than_two_kilobytes_of_header() -> None:
    generator = np.random.default_rng(0)
    tensors = {}
    for i in range(21):
        prefix, width = f"stage{i // 7}.{i % 7 // 2}", 16 << i // 7
        mask = generator.random((width, width, 3, 3)) < 0.1
        q = generator.integers(0, 16, mask.shape, np.uint8)
        tensors[f"{prefix}.conv{i % 2 + 1}.weight"] = encode_grid(q, 4, np.ones(width), 8, 0, mask)
        for part in ("weight", "bias", "running_mean", "running_var"):
            vector = generator.standard_normal(width).astype(np.float32)
            tensors[f"{prefix}.bn{i % 2 + 1}.{part}"] = encode_values(vector)
        tensors[f"{prefix}.bn{i % 2 + 1}.num_batches_tracked"] = encode_values(np.array(1000))
    archive = Archive(tensors, {"name": "resnet20", "origin": "zoo"}, [{"prune": {"ratio": 0.9}}])
    assert len(tensors) > 110
    assert archive.overhead_bytes < 1500


def test_every_flipped_byte_is_noticed() -> None:
    data = small_archive().to_bytes()
    generator = np.random.default_rng(0)
    for position in [*range(300), *generator.integers(300, len(data), 300)]:
        broken = bytearray(data)
        broken[position] ^= 1 << int(generator.integers(8))
        with pytest.raises(ArchiveError):
            Archive.from_bytes(bytes(broken))


def test_every_truncation_is_called_one(tmp_path) -> None:
    data = small_archive().to_bytes()
    path = tmp_path / "x.wbz"
    for length in [1, 3, 4, 5, 16, 17, 18, 100, len(data) // 2, len(data) - 17, len(data) - 1]:
        path.write_bytes(data[:length])
        with pytest.raises(ArchiveError, match=r"^x\.wbz is truncated"):
            load_archive(path)


def test_bytes_after_the_end_are_noticed() -> None:
    with pytest.raises(ArchiveError, match="damaged"):
        Archive.from_bytes(small_archive().to_bytes() + b"\0")


FOREIGN = [b"", b"PK\x03\x04 a zip", b"\x80\x02}q\x00.", b"\x89PNG\r\n", b"\0" * 500]


@pytest.mark.parametrize("content", FOREIGN)
def test_other_files_are_called_what_they_are_not(tmp_path, content: bytes) -> None:
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(ArchiveError, match=r"model\.pt is not a \.wbz file"):
        load_archive(path)


def test_a_newer_version_says_so(tmp_path) -> None:
    data = bytearray(small_archive().to_bytes())
    data[4] = VERSION + 1
    path = tmp_path / "x.wbz"
    path.write_bytes(data)
    with pytest.raises(ArchiveError, match=r"newer version .* update"):
        load_archive(path)


def test_missing_files_and_folders_get_one_sentence(tmp_path) -> None:
    with pytest.raises(ArchiveError, match=r"could not read .*no such file"):
        load_archive(tmp_path / "none.wbz")
    with pytest.raises(ArchiveError, match=r"could not read .*directory"):
        load_archive(tmp_path)


def test_data_that_is_not_plain_is_refused_on_saving(tmp_path) -> None:
    for metadata in ({"a": float("nan")}, {"a": {1, 2}}, {"a": np.float32(1)}):
        with pytest.raises(ArchiveError, match="plain JSON data"):
            Archive({}, metadata=metadata).save(tmp_path / "x.wbz")
    assert list(tmp_path.iterdir()) == []


CHANGES = {
    "a tensor of 4 TB": lambda h: h["shapes"].__setitem__(0, [10**12]),
    "many tensors of 400 MB": lambda h: h["shapes"].__setitem__(1, [10**8]) or h.update(shapes=[[10**8]] * 4),
    "a shape that overflows": lambda h: h["shapes"].__setitem__(0, [10**8, 10**8, 0]),
    "a negative size": lambda h: h["shapes"].__setitem__(0, [-1]),
    "a fractional size": lambda h: h["shapes"].__setitem__(0, [1.5]),
    "another shape": lambda h: h["shapes"].__setitem__(1, [33]),
    "a shape with too many axes": lambda h: h["shapes"].__setitem__(1, [1] * 100),
    "no shapes": lambda h: h.pop("shapes") and None,
    "too few shapes": lambda h: h["shapes"].pop() and None,
    "names that are not names": lambda h: h["names"].__setitem__(0, 5),
    "one name twice": lambda h: h["names"].__setitem__(0, "bn.weight"),
    "an encoding that is not there": lambda h: h["uses"].__setitem__(0, 99),
    "a negative encoding": lambda h: h["uses"].__setitem__(0, -1),
    "an unknown encoding": lambda h: h["kinds"][0].update(kind="magic"),
    "an encoding that is a list": lambda h: h["kinds"].__setitem__(0, []),
    "encodings nested without end": lambda h: h["kinds"].__setitem__(0, nested(500)),
    "sizes that are none": lambda h: h.update(sizes=None),
    "a size too large": lambda h: h["sizes"].__setitem__(0, 10**9),
    "a size too small": lambda h: h["sizes"].__setitem__(0, 1),
    "no sizes": lambda h: h["sizes"].clear(),
    "a negative blob": lambda h: h["sizes"].__setitem__(0, -5),
    "no model": lambda h: h.pop("model") and None,
    "a header that is a list": lambda h: [h],
    "a header that is a number": lambda h: 7,
}


def nested(depth: int) -> dict:
    kind = {"kind": "packed", "bits": 8}
    for _ in range(depth):
        kind = {"kind": "entropy", "inner": kind}
    return kind


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_forged_header_is_refused_in_one_sentence(change) -> None:
    with pytest.raises(ArchiveError) as caught:
        Archive.from_bytes(forge(small_archive().to_bytes(), change), "x.wbz")
    assert str(caught.value).startswith("x.wbz ")
    assert "\n" not in str(caught.value)


def test_a_decompression_bomb_is_refused() -> None:
    bomb = compress_text(b"[" * (1 << 27))
    body = PREAMBLE.pack(MAGIC, 1, len(bomb), PREAMBLE.size + len(bomb) + DIGEST_BYTES) + bomb
    assert len(body) < 100_000  # and 128 MB unpacked
    with pytest.raises(ArchiveError, match="header cannot be read"):
        Archive.from_bytes(body + _digest(body))
    with pytest.raises(ArchiveError, match="more than 100 values"):
        Archive.from_bytes(small_archive().to_bytes(), max_values=100)


@settings(deadline=None, max_examples=400)
@given(st.data())
def test_random_forgeries_never_raise_anything_else(data) -> None:
    """Replace any one value anywhere in the header by any other kind of value."""
    numbers = [-1, 0, 1, 7, 255, 2**31, 2**70, 0.5, True]
    junk = st.sampled_from([*numbers, None, "", "packed", [], [1], {}, {"kind": "dense"}])

    def change(header):
        node, path = header, []
        while isinstance(node, (dict, list)) and node and (not path or data.draw(st.booleans())):
            key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
            path.append((node, key))
            node = node[key]
        parent, key = path[-1]
        parent[key] = data.draw(junk)

    forged = forge(small_archive().to_bytes(), change)
    try:
        archive = Archive.from_bytes(forged)
    except WorkbenchError:
        return
    for encoding in archive.tensors.values():
        try:
            assert encoding.decode().shape == encoding.shape
        except WorkbenchError:  # a zero point that is no code only shows when decoding
            continue


@pytest.mark.parametrize("size", [[2**16, 2**16], [256, 1], [2, 2**16]])
def test_a_book_of_vectors_larger_than_the_tensor_needs_is_refused_before_it_takes_memory(size: list[int]) -> None:
    book = {"kind": "hashed", "seed": 0, "count": 1, "buckets": {"kind": "dense", "type": "float32"}}
    described = {"kind": "blocks", "axis": 0, "size": size, "book": book, "book_bytes": 4, "codes": {"kind": "none"}}
    with pytest.raises(EncodingError, match="needs no book"):
        unpack(described, (8, 8), bytes(64))


def test_a_long_header_comes_back_as_a_short_one_does() -> None:
    every = {f"stage.{number}.weight": encode_values(np.zeros((number % 7, 3), np.float32)) for number in range(2000)}
    recipe, metadata = [{"prune": {"ratio": 0.5}}], {"é": "x"}
    for names in (list(every)[:5], list(every)):
        archive = Archive({name: every[name] for name in names}, {"name": "a"}, recipe, [], metadata)
        back = Archive.from_bytes(archive.to_bytes())
        assert list(back.tensors) == names
        assert (back.model, back.recipe, back.edits, back.metadata) == ({"name": "a"}, recipe, [], metadata)
        assert len(archive.to_bytes()) == archive.nbytes
        assert [one.shape for one in back.tensors.values()] == [every[name].shape for name in names]
