"""A measured setting as the plain data of ``workbench evaluate --json``, and as text."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from workbench.analyze.layers import layer_table
from workbench.analyze.sensitivity import Sensitivity
from workbench.session import Session
from workbench.snapshot import Snapshot

#: Why there is no accuracy.
NO_LABELS = "These images have no labels: agreement with the dense model's answers is told instead of accuracy."


def evaluation_report(session: Session, snapshot: Snapshot) -> dict[str, Any]:
    """Return the report of ``snapshot``: figures of the baseline and of the recipe, and every layer's."""
    baseline = snapshot.baseline
    return {
        "model": session.model.name,
        "dataset": session.data.name,
        "normalization": str(session.normalization),
        "recipe": snapshot.recipe.to_data(),
        "recipe_hash": snapshot.recipe_hash,
        "runtime": snapshot.runtime,
        "baseline": {
            "accuracy": _json(baseline.accuracy),
            "size": _json(baseline.size),
            "latency": _json(baseline.latency),
        },
        "accuracy": _json(snapshot.accuracy),
        "top5": _json(snapshot.top5),
        "loss": _json(snapshot.loss),
        "agreement": _json(snapshot.agreement),
        "why_no_accuracy": None if session.split.labelled else NO_LABELS,
        "size": _json(snapshot.size),
        "latency": _json(snapshot.latency),
        "device": _device(session, snapshot),
        "layers": [{**asdict(layer), "shape": list(layer.shape)} for layer in snapshot.layers],
        "shares": {row.name: {"size": row.size_share, "time": row.time_share} for row in layer_table(session)},
        "notes": list(snapshot.notes),
    }


def _device(session: Session, snapshot: Snapshot) -> dict[str, Any] | None:
    """Return, for a described device, the time ÷ the baseline's with its 90 % interval, and the energy."""
    found = session.on_device(snapshot.recipe)
    if found is None:
        return None
    ratio, energy = found
    interval = {"value": ratio.ms, "low": ratio.low, "high": ratio.high}
    return {"name": session.device, "ratio": interval, "energy": energy and energy.to_json()}


def render_report(report: dict[str, Any]) -> str:
    """Return the report as lines for a terminal."""
    accuracy, agreement, size, latency = (report[name] for name in ("accuracy", "agreement", "size", "latency"))
    before = report["baseline"]
    lines = [
        f"{report['model']} on {report['dataset']}, {agreement['n']:,} {agreement['split']} images, "
        f"{report['runtime']}",
        f"accuracy  {accuracy['value']:.2%}  (baseline {before['accuracy']['value']:.2%})"
        if accuracy
        else f"agreement {agreement['value']:.2%}  (no labels: answers like the dense model's, not right ones)",
        f"size      {size['bytes']:,} bytes, {size['ratio']:.1f}× smaller than {size['dense_fp32_bytes']:,}",
    ]
    if report["device"]:
        lines += _on_device(report)
    elif latency:
        lines.append(
            f"latency   {latency['ms']:.3f} ms {latency['kind']} (baseline {before['latency']['ms']:.3f} ms), "
            f"{latency['device']}, batch {latency['batch']}"
        )
    lines.extend([f"          {latency['reason']}"] if latency and latency["reason"] else [])
    width = max(len(layer["name"]) for layer in report["layers"])
    lines.append("")
    lines.append(
        f"{'layer'.ljust(width)}  {'shape':>16} {'params':>10} {'MACs':>12} {'zeros':>6} {'bits':>4} "
        f"{'bytes':>10} {'size':>5} {'time':>5}"
    )
    for layer in report["layers"]:
        shape = "×".join(str(size) for size in layer["shape"])
        share = report["shares"][layer["name"]]
        time = "–" if share["time"] is None else f"{share['time']:.0%}"
        lines.append(
            f"{layer['name'].ljust(width)}  {shape:>16} {layer['params']:>10,} {layer['macs']:>12,} "
            f"{layer['sparsity']:>6.0%} {layer['bits']:>4} {layer['bytes']:>10,} {share['size']:>5.0%} {time:>5}"
        )
    lines.extend(f"note: {note}" for note in report["notes"])
    return "\n".join(lines)


def _on_device(report: dict[str, Any]) -> list[str]:
    """Return the lines of a described device: the ratio first, then milliseconds, then energy."""
    ratio, latency, energy = report["device"]["ratio"], report["latency"], report["device"]["energy"]
    lines = [
        f"latency   {ratio['value']:.2f}× the baseline's [{ratio['low']:.2f}–{ratio['high']:.2f}], {latency['device']}",
        f"          {latency['ms']:.3g} ms [{latency['low']:.3g}–{latency['high']:.3g}] predicted, batch 1, "
        f"{latency['runtime']}",
    ]
    if energy:
        lines.append(
            f"energy    {energy['mj']:.3g} mJ [{energy['low']:.3g}–{energy['high']:.3g}] predicted, {energy['scope']}"
        )
    return lines


def sensitivity_report(session: Session, found: Sensitivity) -> dict[str, Any]:
    """Return the report of a sweep: what was asked, the baseline, and every layer's accuracies."""
    return {
        "model": session.model.name,
        "dataset": session.data.name,
        "runtime": session.runtime,
        **found.to_json(),
    }


_MODES = {"only": "one layer alone", "others": "all but one layer", "together": "these layers"}


def render_sensitivity(report: dict[str, Any]) -> str:
    """Return the report of a sweep as lines for a terminal: points lost, layer by layer."""
    baseline, layers = report["baseline"], report["layers"]
    width = max(len(layer["name"]) for layer in layers)
    told = "accuracy" if report["labelled"] else "agreement"
    most = max(estimate["n"] for layer in layers for estimate in layer[told])
    lines = [
        f"{report['model']} on {report['dataset']}, up to {most:,} of {baseline['n']:,} {baseline['split']} images, "
        f"{report['runtime']}",
        f"points {'lost' if report['labelled'] else 'of agreement lost'} against {baseline['value']:.2%} with "
        f"{report['technique']} on {_MODES[report['mode']]}, "
        f"{report['setting']} at" + ("; place, 1 the most sensitive, with 95 % interval" if layers[0]["rank"] else ""),
        " ".join(
            [" " * width, *(f"{level!s:>7}" for level in layers[0]["setting"]), "  place" * bool(layers[0]["rank"])]
        ),
    ]
    for layer in layers:
        lost = [100 * (baseline["value"] - estimate["value"]) for estimate in layer[told]]
        shown = ("      –" if same else f"{points:7.2f}" for points, same in zip(lost, _untouched(layer), strict=True))
        lines.append(" ".join([layer["name"].ljust(width), *shown, _place(layer)]))
    if any(any(_untouched(layer)) for layer in layers):
        lines.append("–: left as it is, since nothing of the layer can be compressed so by itself")
    if report["order"] is not None and report["order"] < 1:
        lines.append(f"order of the layers: rank correlation with that on all images ≥ {report['order']:.2f} (90 %)")
    lines += _metric_lines(report.get("metrics", [])) + _pair_lines(report.get("pairs"))
    return "\n".join(lines)


def _untouched(layer: dict[str, Any]) -> list[bool]:
    """Return where a setting leaves the model as it is."""
    figures = zip(layer["agreement"], layer["kl"], strict=True)
    return [same["kind"] == "exact" and same["value"] == 1 and kl["value"] == 0 for same, kl in figures]


def _place(layer: dict[str, Any]) -> str:
    """Return a layer's place in the order, and between which it surely lies."""
    rank = layer["rank"]
    if rank is None:
        return ""
    span = f"{rank['low']}–{rank['high']}" if rank["low"] < rank["high"] else ""
    return f"  {rank['value']:>3}  {span}".rstrip()


def _metric_lines(metrics: list[dict[str, Any]]) -> list[str]:
    """Return how well each metric ranks the layers, best first."""
    if not metrics:
        return []
    lines = ["", f"{'ranks the layers as the measured drop':<38} {'Spearman':>8} {'Kendall':>8} {'seconds':>8}"]
    for each in sorted(metrics, key=lambda each: -(each["spearman"] or -2)):
        figures = ["–" if each[name] is None else f"{each[name]:.2f}" for name in ("spearman", "kendall", "seconds")]
        cells = [*figures[:2], "in sweep" if each["seconds"] is None else figures[2]]
        lines.append(f"{each['name']:<38} {' '.join(f'{cell:>8}' for cell in cells)}  {each['problem']}".rstrip())
    return lines


def _pair_lines(pairs: dict[str, Any] | None) -> list[str]:
    """Return the matrix of interactions in points; on its diagonal each layer's own loss."""
    if pairs is None:
        return []
    width = max(map(len, pairs["layers"]))
    lines = ["", "points lost by two layers beyond the sum of both alone (diagonal: the layer alone)"]
    for name, row in zip(pairs["layers"], pairs["interaction"], strict=True):
        lines.append(" ".join([name.ljust(width), *(f"{100 * value:7.2f}" for value in row)]))
    return lines


def _json(figure: Any) -> dict[str, Any] | None:
    return None if figure is None else figure.to_json()
