"""An allocation as the plain data of ``workbench allocate --json``, and as text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .allocation import Allocation
from .budget import Budget

if TYPE_CHECKING:
    from workbench.session import Session


def allocation_report(session: Session, found: Allocation) -> dict[str, Any]:
    """Return the report of an allocation."""
    return {"model": session.model.name, "dataset": session.data.name, **found.to_json()}


def render_allocation(report: dict[str, Any]) -> str:
    """Return the report as lines for a terminal: the answers side by side, what was off, and the recipe."""
    import yaml

    budget = Budget(report["budget"]["kind"], report["budget"]["limit"])
    dense = report["dense"]["accuracy"] or report["dense"]["agreement"]
    what = "right" if report["dense"]["accuracy"] else "alike, since there are no labels,"
    lines = [
        f"{report['model']} on {report['dataset']}, at most {budget.say()} by {' and '.join(report['techniques'])}; "
        f"dense {dense['value']:.2%} {what} of {dense['n']:,} {dense['split']} images",
        f"{'answer':<8} {'foreseen':>18} {'validation':>10} {dense['split']:>8} {'bytes':>10} {'ms':>8} {'MACs':>12}",
    ]
    answers = {"best": {"predicted": report["predicted"], "measured": report["measured"]}, **report["baselines"]}
    lines += [_line(name, answer) for name, answer in answers.items() if answer]
    lines += [f"note: {text}" for text in report["remarks"]]
    lines.append(f"first answer after {report['first_answer_seconds']:.0f} s, all after {report['seconds']:.0f} s")
    for point in report.get("front", []):
        latency = f"{point['ms']:.3f} ms" if point["ms"] else "–"
        lines.append(f"front: {point['accuracy']['value']:.2%}, {point['bytes']:,} bytes, {latency}")
    return "\n".join([*lines, "", yaml.safe_dump(report["recipe"], sort_keys=False, default_flow_style=None).rstrip()])


def _line(name: str, answer: dict[str, Any]) -> str:
    predicted, measured = answer["predicted"]["accuracy"], answer["measured"]
    half = (predicted["high"] - predicted["low"]) / 2
    latency = measured["latency"]
    return (
        f"{name:<8} {predicted['value']:>10.2%} ± {100 * half:4.2f} {measured['validation']['value']:>10.2%} "
        f"{(measured['accuracy'] or measured['agreement'])['value']:>8.2%} {measured['size']['bytes']:>10,} "
        f"{latency['ms'] if latency else float('nan'):>8.3f} {measured['macs']:>12,}"
    )
