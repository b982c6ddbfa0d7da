"""An export as lines for a terminal."""

from __future__ import annotations

from collections import Counter

from .export import Export

#: Kinds of kernels named.
_SHOWN = 10


def render_export(written: Export) -> str:
    """Return what was written and what it does in its runtime."""
    simulated = written.simulated
    lines = [
        f"{written.model} as {written.format.title}, for {written.runtime}",
        *(f"file        {path}, {size:,} bytes" for path, size in written.files),
        f"simulated   {simulated.value:.2%} in torch, {simulated.n:,} {simulated.split} images"
        if simulated
        else "simulated   in torch; the images have no labels, so it is not known which answers are right",
    ]
    if written.agreement:
        accuracy = f"{written.accuracy.value:.2%} in {written.runtime}; " if written.accuracy else ""
        lines += [
            f"accuracy    {accuracy}{written.agreement.value:.2%} of the answers are the simulation's",
            f"time        {written.ms:.3f} ms an image on one thread, {written.load_ms:.0f} ms to open",
        ]
    counts = Counter(f"{row.op} {row.dtype}" for row in written.kernels)
    if counts:
        lines.append("it ran      " + ", ".join(f"{count} {kind}" for kind, count in counts.most_common(_SHOWN)))
    return "\n".join([*lines, *(f"note: {remark}" for remark in written.remarks)])
