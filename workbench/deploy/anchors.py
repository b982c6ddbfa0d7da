"""What a person measured on a device, as they write it down: ``dense=12.5``, a file, a network, a profile."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from workbench.errors import WorkbenchError
from workbench.measure.devices import Observation, Target, Work, find_target, work_of
from workbench.measure.devices.profiles import read_profile
from workbench.measure.devices.published import networks
from workbench.measure.devices.roofline import Dtype
from workbench.measure.devices.target import dtype_of
from workbench.recipe import Recipe
from workbench.session import Session


def calibrated_target(
    device: str, session: Session, anchors: Sequence[str] = (), profile: str | Path | None = None
) -> Target:
    """Return the described device ``device`` after a person's measurements on it.

    ``anchors`` are ``WHAT=MS``: WHAT is "dense" (the session's model), an ``.onnx`` file, a recipe file, or a
    published network's name, with ":int8" where it ran in 8 bits. ``profile``: a file that a profiler wrote of
    the dense model.

    Raises:
        WorkbenchError: no such device, file or network, a time that is none, a profile of no known tool.
    """
    target = find_target(device)
    seen = [read_anchor(text, session) for text in anchors]
    if profile is not None:
        seen += read_profile(Path(profile)).observations(*session.work(Recipe()))
    return target.with_anchors(seen) if seen else target


def read_anchor(text: str, session: Session) -> Observation:
    """Return the measurement that ``WHAT=MS`` says."""
    what, sign, number = text.rpartition("=")
    try:
        ms = float(number)
    except ValueError:
        ms = 0.0
    if not sign or not 0 < ms < 1e7:
        raise WorkbenchError(f"'{text}' is no measurement: write it as dense=12.5, in milliseconds.")
    work, dtype = _work(what, session)
    return Observation(work, dtype, ms)


def _work(what: str, session: Session) -> tuple[Work, Dtype]:
    name, _, dtype = what.partition(":")
    if name == "dense":
        return session.work(Recipe())
    if name in networks():
        if dtype not in ("", "float", "int8"):
            raise WorkbenchError(f"'{dtype}' is no number type of an anchor: there is float and int8.")
        return networks()[name], "int8" if dtype == "int8" else "float"
    path = Path(what)
    if not path.is_file():
        known = ", ".join(sorted(networks()))
        raise WorkbenchError(f"'{what}' is neither dense, nor a file, nor one of the published networks: {known}.")
    if path.suffix == ".onnx":
        from workbench.measure.latency import fused_kernels

        kernels = fused_kernels(path.read_bytes(), block=0)
        return work_of(kernels), dtype_of(kernels)
    return session.work(Recipe.parse(path.read_text(encoding="utf-8")))
