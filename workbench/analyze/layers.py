"""The layer table: what each layer is, and its share of the file and of the time."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.session import Session


@dataclass(frozen=True)
class LayerRow:
    """One layer under the present recipe.

    ``macs`` and ``activation_bytes`` (fp32 output, uncompressed) are per image. ``size_share`` is of
    the archive; ``time_share`` of the predicted latency, None where the layer has no kernel of its own.
    """

    name: str
    type: str
    shape: tuple[int, ...]
    params: int
    macs: int
    activation_bytes: int
    size_share: float
    time_share: float | None


def layer_table(session: Session) -> tuple[LayerRow, ...]:
    """Return the session's layers in call order, with their shares.

    >>> with Session("lenet300", "fashion_mnist", history=":memory:") as session:
    ...     [(row.name, row.params, round(row.size_share, 2)) for row in layer_table(session)]
    [('fc1', 235500, 0.88), ('fc2', 30100, 0.11), ('fc3', 1010, 0.0)]
    """
    compressed = session.compressed
    total, times = compressed.nbytes, session.time_shares()
    return tuple(
        LayerRow(
            name=figures.name,
            type=figures.type,
            shape=figures.shape,
            params=figures.params,
            macs=figures.macs,
            activation_bytes=layer.activation_bytes,
            size_share=figures.bytes / total,
            time_share=times.get(layer.weight),
        )
        for layer, figures in zip(session.layers, compressed.layers, strict=True)
    )
