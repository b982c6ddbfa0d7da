"""Files arrive whole or not at all, where nobody else reads them, and never outside of their folder."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from widgets.picker.upload import FOLDERS, KEPT, UploadError, Uploads, check_path


@pytest.fixture
def uploads() -> Any:
    uploads = Uploads(max_bytes=1_000, max_files=3)
    yield uploads
    uploads.close()


def part(path: str, offset: int, size: int) -> dict[str, Any]:
    return {"path": path, "offset": offset, "size": size}


def send(uploads: Uploads, key: str, files: dict[str, bytes]) -> Path:
    uploads.begin(key, next(iter(files)), len(files), sum(map(len, files.values())))
    for path, data in files.items():
        uploads.write(key, [part(path, 0, len(data))], memoryview(data))
    return uploads.finish(key)


def test_a_file_sent_in_pieces_is_there_byte_for_byte(uploads: Uploads) -> None:
    uploads.begin("1", "net.onnx", 1, 7)
    assert uploads.write("1", [part("net.onnx", 0, 4)], memoryview(b"abcd")) == 4
    assert uploads.write("1", [part("net.onnx", 4, 3)], memoryview(b"efg")) == 7
    path = uploads.finish("1")
    assert path.name == "net.onnx"
    assert path.read_bytes() == b"abcdefg"


def test_a_folder_keeps_its_layout_and_many_files_share_a_message(uploads: Uploads) -> None:
    uploads.begin("1", "pets", 3, 6)
    parts = [part("pets/train/cat/1.png", 0, 1), part("pets/train/dog/1.png", 0, 2), part("pets/test/cat/1.png", 0, 3)]
    uploads.write("1", parts, memoryview(b"abbccc"))
    folder = uploads.finish("1")
    assert folder.name == "pets"
    assert (folder / "train/dog/1.png").read_bytes() == b"bb"


@pytest.mark.skipif(os.name != "posix", reason="permissions are the system's")
def test_only_the_person_reads_what_was_uploaded(uploads: Uploads) -> None:
    path = send(uploads, "1", {"a.npz": b"x"})
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.parent.parent.stat().st_mode) == 0o700


def test_everything_goes_with_the_page(uploads: Uploads) -> None:
    path = send(uploads, "1", {"a.npz": b"x"})
    uploads.close()
    assert not path.parent.parent.exists()


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_a_killed_kernel_leaves_nothing_either(tmp_path: Path) -> None:
    code = (
        "import os, signal; from widgets.picker.upload import Uploads; uploads = Uploads();"
        "uploads.begin('1', 'a.npz', 1, 5); print(uploads._root, flush=True); input();"
        "os.killpg(os.getpid(), signal.SIGKILL)"
    )
    kernel = subprocess.Popen(
        [sys.executable, "-c", code],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        start_new_session=True,
    )
    assert kernel.stdout is not None
    root = Path(kernel.stdout.readline().strip())
    assert root.is_dir()
    kernel.communicate("now\n", timeout=30)
    assert kernel.returncode == -signal.SIGKILL
    deadline = time.monotonic() + 10
    while root.exists():
        assert time.monotonic() < deadline
        os.sched_yield()


def test_old_uploads_make_room(uploads: Uploads) -> None:
    paths = [send(uploads, str(number), {"a.npz": b"x"}) for number in range(KEPT + 1)]
    assert [path.exists() for path in paths] == [False] + [True] * KEPT


def test_too_much_is_refused_before_a_byte_is_sent(uploads: Uploads) -> None:
    with pytest.raises(UploadError, match="MB"):
        uploads.begin("1", "big.onnx", 1, 2_000)
    with pytest.raises(UploadError, match="4 files"):
        uploads.begin("1", "many", 4, 10)
    with pytest.raises(UploadError, match="empty"):
        uploads.begin("1", "none.npz", 1, 0)


def test_half_an_upload_is_no_upload(uploads: Uploads) -> None:
    uploads.begin("1", "net.onnx", 1, 7)
    uploads.write("1", [part("net.onnx", 0, 4)], memoryview(b"abcd"))
    with pytest.raises(UploadError, match="Only 4 of the 7 bytes"):
        uploads.finish("1")
    with pytest.raises(UploadError, match="has ended"):
        uploads.write("1", [part("net.onnx", 4, 3)], memoryview(b"efg"))


def test_a_cancelled_upload_leaves_nothing(uploads: Uploads) -> None:
    uploads.begin("1", "net.onnx", 1, 7)
    uploads.write("1", [part("net.onnx", 0, 4)], memoryview(b"abcd"))
    folder = uploads._open["1"].folder
    uploads.cancel("1")
    assert not folder.exists()


def test_a_new_upload_ends_one_that_was_given_up(uploads: Uploads) -> None:
    uploads.begin("1", "a.npz", 1, 7)
    folder = uploads._open["1"].folder
    send(uploads, "2", {"b.npz": b"x"})
    assert not folder.exists()


@pytest.mark.parametrize("path", ["../a", "/etc/passwd", "a/../../b", "a\\..\\b", "C:/a", "", "a\0b", "x" * 300])
def test_a_name_that_leads_elsewhere_is_refused(uploads: Uploads, path: str) -> None:
    uploads.begin("1", "a", 1, 1)
    with pytest.raises(UploadError):
        uploads.write("1", [part(path, 0, 1)], memoryview(b"x"))


@pytest.mark.parametrize(
    "parts",
    [
        [part("a", 2, 3)],  # a gap
        [part("a", 0, 2)],  # more bytes than places
        [part("a", 0, 9)],  # more places than bytes
        [part("a", 0, 1), part("b", 0, 2)],  # a file too many
        [{"path": "a"}],
        [{"path": "a", "offset": "x", "size": 3}],
    ],
)
def test_pieces_that_do_not_fit_are_refused(uploads: Uploads, parts: list[Any]) -> None:
    uploads.begin("1", "a", 1, 3)
    with pytest.raises(UploadError):
        uploads.write("1", parts, memoryview(b"abc"))
    assert not uploads._open


def test_more_than_was_announced_is_refused(uploads: Uploads) -> None:
    uploads.begin("1", "a", 1, 2)
    with pytest.raises(UploadError, match="announced"):
        uploads.write("1", [part("a", 0, 3)], memoryview(b"abc"))


def test_a_full_disk_is_said_in_a_sentence(uploads: Uploads, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: Any, **__: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    uploads.begin("1", "a", 1, 1)
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(UploadError, match=r"'a' could not be kept: no space left on device\."):
        uploads.write("1", [part("a", 0, 1)], memoryview(b"x"))


# Paths of the kernel's machine


def test_without_a_list_of_folders_any_path_may_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(FOLDERS, raising=False)
    assert check_path(f" {tmp_path} ") == tmp_path.resolve()
    with pytest.raises(UploadError, match="There is no file or folder"):
        check_path(str(tmp_path / "nowhere"))
    with pytest.raises(UploadError, match="Type the path"):
        check_path("  ")
    with pytest.raises(UploadError, match="Type the path"):
        check_path("//server/share")


def test_with_an_empty_list_none_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDERS, "")
    with pytest.raises(UploadError, match="upload them instead"):
        check_path(str(tmp_path))


def test_with_a_list_only_what_lies_inside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    allowed, secret = tmp_path / "data", tmp_path / "secret"
    (allowed / "pets").mkdir(parents=True)
    secret.mkdir()
    monkeypatch.setenv(FOLDERS, str(allowed))
    assert check_path(str(allowed / "pets")).name == "pets"
    (allowed / "way-out").symlink_to(secret)
    said = set()
    for path in (secret, secret / "nothing", allowed / "way-out", allowed / ".." / "secret"):
        with pytest.raises(UploadError) as caught:
            check_path(str(path))
        said.add(str(caught.value))
    assert said == {f"Only files below {allowed.resolve()} can be opened from here."}, "tells nothing of what is there"
