"""The layer table's shares are of the file that is saved and of the time that is predicted."""

from __future__ import annotations

import pytest

import workbench as wb


def test_shares_are_of_the_whole_file_and_the_whole_time() -> None:
    with wb.Session("lenet5", "fashion_mnist", history=":memory:") as session:
        rows = wb.layer_table(session)
        assert [row.name for row in rows] == ["conv1", "conv2", "fc1", "fc2"]
        assert sum(row.size_share for row in rows) == pytest.approx(1, abs=0.01)
        for device, least in (("this-machine", 0.0), ("raspberry-pi-4", 0.5)):  # of a described one there is no noise
            session.use_device(device)
            times = [row.time_share for row in wb.layer_table(session)]
            assert all(share is not None and share > 0 for share in times)
            assert least < sum(times) <= 1
        assert rows[0].activation_bytes == 4 * 20 * 24 * 24


def test_shares_follow_the_recipe() -> None:
    with wb.Session("lenet5", "fashion_mnist", history=":memory:") as session:
        before = {row.name: row for row in wb.layer_table(session)}
        session.apply("- quantize: {bits: 2, layers: [fc1]}")
        after = {row.name: row for row in wb.layer_table(session)}
        assert after["fc1"].size_share < before["fc1"].size_share
        assert after["fc1"].time_share == pytest.approx(before["fc1"].time_share)
