"""What is said beside the chosen model and the chosen data."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.counting import counted

if TYPE_CHECKING:
    from workbench.session import Session
    from workbench.snapshot import Snapshot


def describe_model(session: Session, snapshot: Snapshot | None = None, remark: str = "") -> str:
    """Say how large the model is and how well it does uncompressed, then what loading it had to do."""
    parameters = sum(parameter.numel() for parameter in session.model.module.parameters())
    facts = [counted(parameters, "parameter"), counted(len(session.layers), "layer")]
    accuracy = snapshot.baseline.accuracy if snapshot is not None else None
    if accuracy is not None and accuracy.kind == "exact":
        facts.append(f"{100 * accuracy.value:.2f} % on {accuracy.split}")
    return " · ".join([*facts, *([remark] if remark else []), *session.model.notes])


def describe_data(session: Session) -> str:
    """Say how many images each split has and how they are normalized."""
    data = session.data
    normalization = session.model.normalization or data.normalization
    splits = [f"{name} {len(data.splits[name]):,}" for name in ("test", "validation", "train") if name in data.splits]
    return " · ".join([*splits, str(normalization), *data.notes])
