"""Described devices in the page: ratios first, reasons where nothing is gained, measurements of the person's own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.widgets.conftest import wait_until
from widgets import DevicesView
from workbench.measure.devices import targets
from workbench.recipe import Recipe
from workbench.session import Session

PRUNED = Recipe.parse("- prune: {ratio: 0.6}")


@pytest.fixture(scope="module")
def real() -> Iterator[Session]:
    with Session("lenet300", "fashion_mnist", history=":memory:") as session:
        session.measure(PRUNED)
        yield session


@pytest.fixture
def view(real: Session) -> Iterator[DevicesView]:
    view = DevicesView(real)
    wait_until(view, "rows", bool)
    yield view
    view.close()
    view._errands.run("end", lambda: None).join()


def row(view: DevicesView, device: str) -> dict[str, Any]:
    return next(row for row in view.rows if row["device"] == device)


def test_every_device_has_a_ratio_with_its_interval_and_a_reason_where_nothing_is_gained(
    view: DevicesView, real: Session, tmp_path: Path
) -> None:
    assert [row["device"] for row in view.rows] == [target.name for target in targets()]
    assert view.shown == "60 % pruned"
    for one in view.rows:
        value, low, high = one["ratio"]
        assert low <= value <= high
        assert value == pytest.approx(1, abs=0.01), "a mask makes nothing faster"
        assert "Masked weights gain nothing" in one["reason"]
        assert one["ms"][1] < one["ms"][0] < one["ms"][2]
    real.measure(Recipe())
    wait_until(view, "shown", lambda shown: shown == "dense")
    real.measure(PRUNED)
    assert view.save(tmp_path / "devices.svg").stat().st_size > 3_000


def test_a_measurement_of_ones_own_corrects_its_device_and_no_other(view: DevicesView) -> None:
    before, other = row(view, "raspberry-pi-4")["ms"][0], row(view, "a100-sxm")
    view._handle_custom_msg({"do": "measured", "device": "raspberry-pi-4", "what": "dense", "ms": str(3 * before)}, [])
    wait_until(view, "rows", lambda _: row(view, "raspberry-pi-4")["ms"][0] > 1.5 * before)
    assert row(view, "a100-sxm") == other
    assert view.anchors[0]["what"] == "dense"
    view._handle_custom_msg({"do": "forget", "anchor": 0}, [])
    wait_until(view, "rows", lambda _: row(view, "raspberry-pi-4")["ms"][0] == before)
    assert view.anchors == []


@pytest.mark.parametrize(
    ("device", "ms", "said"),
    [
        ("raspberry-pi-4", "", "such as 12.5"),
        ("raspberry-pi-4", "-1", "such as 12.5"),
        ("raspberry-pi-4", "fast", "as a number"),
        ("toaster", "3", "no device 'toaster'"),
    ],
)
def test_what_is_no_measurement_is_refused(view: DevicesView, device: str, ms: str, said: str) -> None:
    view._handle_custom_msg({"do": "measured", "device": device, "what": "dense", "ms": ms}, [])
    assert said in wait_until(view, "problem", bool)
    assert view.anchors == []


def test_a_hidden_view_predicts_nothing(real: Session, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workbench.deploy.outlook.look_ahead", lambda *_: pytest.fail("nobody looks"))
    view = DevicesView(real, visible=False)
    real.measure(Recipe())
    real.measure(PRUNED)
    view._errands.run("end", lambda: None).join()
    assert view.rows == []
    view.close()
