"""The layer table's shares are of the file that is saved and of the time that is predicted."""

from __future__ import annotations

from pathlib import Path

import pytest

import workbench as wb


def test_shares_are_of_the_whole_file_and_the_whole_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORKBENCH_HOME", str(tmp_path))  # where no kernel was timed beside other work
    with wb.Session("lenet5", "fashion_mnist", history=":memory:") as session:
        rows = wb.layer_table(session)
        assert [row.name for row in rows] == ["conv1", "conv2", "fc1", "fc2"]
        assert sum(row.size_share for row in rows) == pytest.approx(1, abs=0.01)
        for device in ("this-machine", "raspberry-pi-4"):
            session.use_device(device)
            times = [row.time_share for row in wb.layer_table(session)]
            assert all(share is not None and share > 0 for share in times)
            assert 0.5 < sum(times) <= 1
        assert rows[0].activation_bytes == 4 * 20 * 24 * 24


def test_shares_follow_the_recipe() -> None:
    with wb.Session("lenet5", "fashion_mnist", history=":memory:") as session:
        before = {row.name: row for row in wb.layer_table(session)}
        session.apply("- quantize: {bits: 2, layers: [fc1]}")
        after = {row.name: row for row in wb.layer_table(session)}
        assert after["fc1"].size_share < before["fc1"].size_share
        assert after["fc1"].time_share == pytest.approx(before["fc1"].time_share)
