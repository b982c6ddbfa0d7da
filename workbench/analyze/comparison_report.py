"""A comparison of settings as the plain data of ``workbench compare --json``, and as text."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .classes import points
from .compare import Comparison, Contrast, Setting

if TYPE_CHECKING:
    from workbench.session import Session


#: Why classes are not compared.
NO_LABELS = "These images have no labels, so it is not known which answers are right, nor which classes are hurt."


def comparison_report(session: Session, found: Comparison, names: Sequence[str]) -> dict[str, Any]:
    """Return the report of ``found``; ``names`` are what the person calls the settings."""
    return {
        "model": session.model.name,
        "dataset": session.data.name,
        "runtime": session.runtime,
        "settings": [_setting(setting, name) for setting, name in zip(found.settings, names, strict=True)],
        "comparisons": [
            {"before": names[0], "after": name, **_contrast(contrast)}
            for name, contrast in zip(names[1:], found.contrasts, strict=True)
        ],
    }


def render_comparison(report: dict[str, Any]) -> str:
    """Return the report as lines for a terminal."""
    settings = report["settings"]
    width = max(len(setting["name"]) for setting in settings)
    n, split = settings[0]["agreement"]["n"], settings[0]["agreement"]["split"]
    lines = [f"{report['model']} on {report['dataset']}, {n:,} {split} images, {report['runtime']}"]
    for setting in settings:
        size, latency = setting["size"], setting["latency"]
        ms = f"{latency['ms']:.2f} ms" if latency else "–"
        lines.append(f"{setting['name'].ljust(width)}  {_score(setting)}  {size['bytes']:>10,} B  {ms}")
    for comparison in report["comparisons"]:
        lines += ["", f"{comparison['before']} → {comparison['after']}", *_lines(comparison)]
    return "\n".join(lines)


def _score(setting: dict[str, Any]) -> str:
    if setting["accuracy"]:
        return f"{setting['accuracy']['value']:8.2%}"
    return f"{setting['agreement']['value']:8.2%} like the dense model"


def _setting(setting: Setting, name: str) -> dict[str, Any]:
    snapshot = setting.snapshot
    figures = {key: getattr(snapshot, key) for key in ("accuracy", "top5", "loss", "agreement", "size", "latency")}
    return {
        "name": name,
        "recipe": snapshot.recipe.to_data(),
        "recipe_hash": snapshot.recipe_hash,
        **{key: None if figure is None else figure.to_json() for key, figure in figures.items()},
    }


def _contrast(contrast: Contrast) -> dict[str, Any]:
    flips = contrast.flips
    return {
        "recipe": [difference.to_json() for difference in contrast.recipe],
        "flips": {
            "lost": flips.lost, "won": flips.won, "other": flips.other, "total": flips.total,
            "images_lost": contrast.lost.tolist(), "images_won": contrast.won.tolist(),
        },
        "classes": contrast.classes.to_json() if contrast.classes else None,
        "summary": contrast.classes.sentence() if contrast.classes else NO_LABELS,
    }  # fmt: skip


def _lines(comparison: dict[str, Any]) -> list[str]:
    flips = comparison["flips"]
    lines = [f"  {difference['text']}" for difference in comparison["recipe"]] or ["  the same recipe"]
    if comparison["classes"] is None:
        return [*lines, f"  {flips['other']:,} images of {flips['total']:,} answered otherwise", f"  {NO_LABELS}"]
    rows = comparison["classes"]["rows"]
    width = max(5, *(len(row["name"]) for row in rows))
    lines.append(
        f"  {flips['lost']:,} images lost, {flips['won']:,} won, {flips['other']:,} wrong either way, "
        f"of {flips['total']:,}"
    )
    lines.append(f"  {'class'.ljust(width)}  before   after  change (95 %)          lost   won       p")
    for row in rows:
        change = row["change"]
        shown = f"{points(change['value'])} ({points(change['low'])} to {points(change['high'])})"
        mark = "  hurt" if row["hurt"] else ""
        lines.append(
            f"  {row['name'].ljust(width)} {row['before']['value']:7.1%} {row['after']['value']:7.1%}  {shown:<21} "
            f"{row['lost']:>5} {row['won']:>5}  {row['p']:6.4f}{mark}"
        )
    return [*lines, f"  {comparison['summary']}"]
