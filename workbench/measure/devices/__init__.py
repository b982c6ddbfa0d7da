"""Devices that are only described: what a network would take on them, from data sheets and anchors.

``description`` reads a device's file, ``work`` what a network asks of it, ``roofline`` how long that takes,
``population`` how far machines are from their data sheets, ``calibrate`` what measurements tell; ``target``
is all of it together.
"""

from __future__ import annotations

from .calibrate import Forecast, Observation
from .description import Description, DeviceError, read_description
from .energy import Energy
from .target import Target, find_target, targets
from .work import Work, work_of

__all__ = [
    "Description", "DeviceError", "Energy", "Forecast", "Observation", "Target", "Work", "find_target",
    "read_description", "targets", "work_of",
]  # fmt: skip
