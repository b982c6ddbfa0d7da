"""Saving never costs the old file, whatever the disk does."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from workbench.encodings import Archive, ArchiveError, encode_values, load_archive
from workbench.encodings import files as files_module


def archive_of(size: int, seed: int = 0) -> Archive:
    values = np.random.default_rng(seed).standard_normal(size).astype(np.float32)
    return Archive({"w": encode_values(values)})


def assert_untouched(path: Path, content: bytes) -> None:
    assert path.read_bytes() == content
    assert [p.name for p in path.parent.iterdir()] == [path.name]


@pytest.fixture
def saved(tmp_path) -> tuple[Path, bytes]:
    path = archive_of(100).save(tmp_path / "x.wbz")
    return path, path.read_bytes()


def test_saving_replaces_the_old_file_and_leaves_nothing_else(saved) -> None:
    path, _ = saved
    archive_of(200, 1).save(path)
    assert load_archive(path).tensors["w"].shape == (200,)
    assert [p.name for p in path.parent.iterdir()] == ["x.wbz"]


def test_a_disk_that_fills_up_half_way_costs_nothing(saved, monkeypatch) -> None:
    path, old = saved
    write, written = os.write, []

    def fills_up(descriptor: int, data: bytes) -> int:
        if written:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written.append(write(descriptor, data[:1000]))
        return written[0]

    monkeypatch.setattr(files_module.os, "write", fills_up)
    with pytest.raises(ArchiveError, match=r"could not save .*x\.wbz: no space left on device; nothing was"):
        archive_of(5000, 1).save(path)
    assert written == [1000]
    assert_untouched(path, old)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_is_full_costs_nothing(saved, monkeypatch) -> None:
    path, old = saved
    open_really = os.open

    def open_full(name, flags, *mode) -> int:
        if str(name).endswith(".tmp"):
            os.close(open_really(name, flags, *mode))
            return open_really("/dev/full", os.O_WRONLY)
        return open_really(name, flags, *mode)

    monkeypatch.setattr(files_module.os, "open", open_full)
    with pytest.raises(ArchiveError, match="no space left on device"):
        archive_of(5000, 1).save(path)
    assert_untouched(path, old)


LIMITED = """
import resource, signal, sys
import numpy as np
from workbench.encodings import Archive, ArchiveError, encode_values
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
try:
    Archive({"w": encode_values(np.ones(50_000, np.int64) << np.arange(50_000) % 60)}).save(sys.argv[1])
except ArchiveError as error:
    print(error)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs POSIX resource limits")
def test_a_file_that_the_system_refuses_to_let_grow_costs_nothing(saved) -> None:
    path, old = saved
    root = Path(__file__).parents[2]
    command = [sys.executable, "-c", LIMITED, str(path)]
    result = subprocess.run(command, cwd=root, capture_output=True, text=True, timeout=60, check=True)
    assert "file too large; nothing was changed" in result.stdout
    assert_untouched(path, old)


def test_a_crash_while_writing_costs_nothing(saved, monkeypatch) -> None:
    path, old = saved

    def interrupted(descriptor: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(files_module.os, "fsync", interrupted)
    with pytest.raises(KeyboardInterrupt):
        archive_of(200, 1).save(path)
    assert_untouched(path, old)


def test_the_data_is_on_the_disk_before_the_name_changes(saved, monkeypatch) -> None:
    path, _ = saved
    events = []
    fsync, replace = os.fsync, Path.replace
    monkeypatch.setattr(files_module.os, "fsync", lambda d: (events.append("fsync"), fsync(d)))
    monkeypatch.setattr(Path, "replace", lambda a, b: (events.append("replace"), replace(a, b))[1])
    archive_of(200, 1).save(path)
    assert events == ["fsync", "replace", "fsync"]


def test_places_that_cannot_be_written_get_one_sentence(tmp_path) -> None:
    archive = archive_of(10)
    with pytest.raises(ArchiveError, match="no such file or directory"):
        archive.save(tmp_path / "missing" / "x.wbz")
    with pytest.raises(ArchiveError, match="not a file"):
        archive.save(tmp_path)
    with pytest.raises(ArchiveError, match="not a file"):
        archive.save("/dev/null")
    assert list(tmp_path.iterdir()) == []


def test_links_are_followed(tmp_path) -> None:
    (tmp_path / "real").mkdir()
    link = tmp_path / "x.wbz"
    link.symlink_to(tmp_path / "real" / "y.wbz")
    archive_of(10).save(link)
    assert link.is_symlink()
    assert load_archive(tmp_path / "real" / "y.wbz").tensors["w"].shape == (10,)
