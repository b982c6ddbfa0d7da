"""The sections of a model card, each made from the facts alone."""

from __future__ import annotations

import shlex
import time
from collections.abc import Iterator, Mapping
from typing import Any

from workbench.analyze.classes import Change, points, wilson
from workbench.analyze.comparison_report import NO_LABELS
from workbench.counting import counted
from workbench.measure.estimate import Size
from workbench.recipe import Recipe
from workbench.techniques import Cost

from .document import Block, Code, Document, Paragraph, Section, Table
from .facts import Facts

#: Classes and layers shown at most, and characters of a recipe; the rest is counted, or left out.
_CLASSES, _LAYERS, _LONGEST = 20, 60, 120
#: What settings are judged by, in words.
_JUDGED = {"accuracy": "accuracy", "agreement": "as the dense model"}
#: What a zoo's card says that tells a reader nothing, or is said already.
_PRIVATE = frozenset({"sha256", "name", "dataset", "seconds", "threads", "machine", "architecture", "command", "torch"})


def card(facts: Facts) -> Document:
    """Return the model card."""
    session = facts.session
    name = facts.record.name or f"setting {facts.recipe.hash[:8]}"
    sections = [
        Section("Figures", (*_figures(facts),)),
        Section("Recipe", (Code(facts.recipe.to_yaml(), "yaml"), Paragraph(_steps(facts)))),
        Section("What changed in its behaviour", (*_behaviour(facts),)),
        Section("Speed", (*_speed(facts),)),
        Section("Files", (*_files(facts),)),
        Section("Layers", (_layers(facts),)),
        Section("Model and data", (*_subject(facts),)),
        Section("How it came about", (*_history(facts),)),
        Section("To reproduce it", (*_reproduce(facts),)),
    ]
    kept = tuple(section for section in sections if section.blocks)
    return Document(f"{session.model.name}, compressed: {name}", _lead(facts), kept)


def _lead(facts: Facts) -> str:
    accuracy, size = facts.setting.snapshot.accuracy, _size(facts)
    if accuracy is None or facts.contrast.classes is None:
        agreement = facts.setting.snapshot.agreement
        assert agreement is not None
        return (
            f"{size.ratio:.1f}× smaller than the dense model, with its answer on {agreement.value:.2%} of "
            f"{agreement.n:,} {agreement.split} images. {NO_LABELS}"
        )
    change = facts.contrast.classes.overall
    return (
        f"{size.ratio:.1f}× smaller than the dense model, {accuracy.value:.2%} right on {accuracy.n:,} "
        f"{accuracy.split} images, {_change(change)} points. {facts.contrast.classes.sentence()}"
    )


def _figures(facts: Facts) -> Iterator[Block]:
    before, after = facts.dense.snapshot, facts.setting.snapshot
    score = after.score
    assert score is not None
    n, split = score.n, score.split
    rows = []
    if before.accuracy and after.accuracy and facts.contrast.classes:
        change = f"{_change(facts.contrast.classes.overall)} points"
        rows.append(("accuracy", _rate(before.accuracy.value, n), _rate(after.accuracy.value, n), change))
    for name in ("top5", "loss", "agreement"):
        one, other = getattr(before, name), getattr(after, name)
        if one is not None and other is not None:
            shown = "{:.4f}" if name == "loss" else "{:.2%}"
            title = {"top5": "top-5 accuracy", "loss": "loss", "agreement": "same answer as the dense model"}[name]
            rows.append((title, shown.format(one.value), shown.format(other.value), ""))
    rows += _sizes(facts)
    yield Table(("", "dense", "compressed", "change"), tuple(rows))
    yield Paragraph(
        f"{'Accuracy' if after.accuracy else 'Agreement'} is exact on all {n:,} images of the split '{split}', run by "
        f"{after.runtime}. Brackets are 95 % "
        "intervals: of the rate behind it (Wilson), and of the paired change (Bonett and Price). The packed file is "
        "what is stored and sent; a runtime loads another one, in which zeros cost as much as other weights; the "
        "entropy bound is the least that a coder of single weights could reach."
    )


def _sizes(facts: Facts) -> Iterator[tuple[str, str, str, str]]:
    before, after = facts.dense.snapshot.size, _size(facts)
    assert before is not None
    yield "packed file", _bytes(before.bytes), _bytes(after.bytes), f"{before.bytes / after.bytes:.1f}× smaller"
    runtime = facts.onnx and facts.onnx[0]
    for title, one, other in (
        ("file of a runtime (ONNX)", before.runtime_bytes, runtime),
        ("entropy bound", before.entropy_bytes, after.entropy_bytes),
    ):
        if one and other:
            yield title, _bytes(one), _bytes(other), f"{one / other:.1f}× smaller"


def _steps(facts: Facts) -> str:
    count = len(facts.recipe.steps)
    hashed = f"{counted(count, 'step')}; hash of the fully resolved recipe: {facts.recipe.hash}."
    return " ".join([hashed, *facts.setting.snapshot.notes])


def _behaviour(facts: Facts) -> Iterator[Block]:
    flips, report = facts.contrast.flips, facts.contrast.classes
    if report is None:
        yield Paragraph(
            f"{flips.changed:,} of {flips.total:,} images get another answer ({flips.changed / flips.total:.2%}). "
            f"{NO_LABELS}"
        )
        return
    yield Paragraph(
        f"{flips.changed:,} of {flips.total:,} images get another answer ({flips.changed / flips.total:.2%}): "
        f"{flips.lost:,} right answers are lost, {flips.won:,} wrong ones come right, {flips.other:,} change from "
        f"wrong to wrong. {report.sentence()}"
    )
    ordered = sorted(report.rows, key=lambda row: row.change.value)
    rows = tuple(
        (row.name + (" (hurt)" if row.hurt else ""), f"{row.before.value:.1%}", f"{row.after.value:.1%}",
         _change(row.change), f"{row.lost} / {row.won}", f"{row.p:.2g}")
        for row in ordered[:_CLASSES]
    )  # fmt: skip
    yield Table(("class", "dense", "compressed", "change in points", "lost / won", "p"), rows)
    left = len(ordered) - _CLASSES
    more = f" {counted(left, 'class')} that changed less {'is' if left == 1 else 'are'} left out." if left > 0 else ""
    yield Paragraph(
        "The worst first; p is that the class lost no more than chance and no more than the others would, adjusted for "
        f"all classes.{more}"
    )


def _speed(facts: Facts) -> Iterator[Block]:
    rows = []
    before, after = facts.dense.snapshot.latency, facts.setting.snapshot.latency
    if before and after:
        rows.append((
            f"{after.device}, {after.runtime}, batch 1", f"{after.ms / before.ms:.2f}× the dense time",
            _interval(after.ms, after.low, after.high, "ms"), f"{after.kind}, 95 %",
        ))  # fmt: skip
    if facts.record.measured_ms is not None:
        rows.append(("this machine, timed earlier", "", f"{facts.record.measured_ms:.3g} ms", "measured"))
    for found in facts.elsewhere:
        ratio = _interval(found.ratio.ms, found.ratio.low, found.ratio.high, "× the dense time")
        energy = found.energy
        mj = f"; {_interval(energy.mj, energy.low, energy.high, 'mJ')} ({energy.scope})" if energy else ""
        rows.append((f"{found.title}, {found.runtime}", ratio, _interval(*found.ms, "ms") + mj, "predicted, 90 %"))
    if rows:
        yield Table(("where", "against the dense model", "one image", ""), tuple(rows), numbers=4)
    if after and after.reason:
        yield Paragraph(after.reason)


def _files(facts: Facts) -> Iterator[Block]:
    rows = tuple(_timed(one) if one["kind"] == "benchmark" else _exported(one) for one in facts.files)
    if rows:
        yield Table(("file", "runtime", "size", "one batch", "accuracy there", ""), rows, numbers=2)


def _timed(report: Mapping[str, Any]) -> tuple[str, ...]:
    ms, memory = report["ms"], report.get("memory")
    above = f"{memory['above_bytes'] / 2**20:.0f} MiB, " if memory else ""
    time_ = _interval(ms["median"], ms["low"], ms["high"], "ms")
    how = f"{counted(report['threads'], 'thread')}, {above}{report['noise']['verdict']}"
    return _name(report["file"]), str(report["runtime"]), _bytes(report["bytes"]), time_, "–", how


def _exported(report: Mapping[str, Any]) -> tuple[str, ...]:
    accuracy = (report.get("accuracy") or {}).get("value")
    names = ", ".join(_name(entry["path"]) for entry in report["files"])
    ms = f"{report['ms']:.3g} ms" if report.get("ms") else "–"
    there = f"{accuracy:.2%}" if accuracy is not None else "–"
    return names, str(report["runtime"]), _bytes(sum(entry["bytes"] for entry in report["files"])), ms, there, ""


def _layers(facts: Facts) -> Block:
    layers = facts.setting.snapshot.layers
    rows: tuple[tuple[str, ...], ...] = tuple(
        (layer.name, layer.type, "×".join(map(str, layer.shape)), f"{layer.params:,}", f"{layer.macs:,}",
         f"{layer.sparsity:.0%}", f"{layer.bits:g}", f"{layer.bytes:,}")
        for layer in layers[:_LAYERS]
    )  # fmt: skip
    header = ("layer", "type", "shape", "weights", "MACs", "zeros", "bits", "bytes")
    if len(layers) > _LAYERS:
        rows += ((f"{len(layers) - _LAYERS} more", *[""] * 7),)
    return Table(header, rows, numbers=3)


def _subject(facts: Facts) -> Iterator[Block]:
    session = facts.session
    splits = ", ".join(f"{name} {len(split):,}" for name, split in session.data.splits.items())
    rows = [
        ("model", f"{session.model.name} ({session.model.origin})"),
        ("hash of the model", session.key.model_hash),
        ("data", f"{session.data.name}: {splits} images"),
        ("classes", f"{len(session.data.classes)}: {', '.join(map(str, session.data.classes[:12]))}"),
        ("normalization", str(session.normalization)),
    ]
    rows += [(f"the publisher on {key}", str(value)) for key, value in _told(session.model.card)]
    yield Table(("", ""), tuple(rows), numbers=9)
    yield Paragraph(
        "The figures hold for images like those of the split they were measured on. Whether the model is fit for "
        "another use has not been measured here."
    )


def _told(published: Any) -> Iterator[tuple[str, Any]]:
    for key, value in dict(published).items():
        if key not in _PRIVATE and isinstance(value, (str, int, float)):
            yield key.replace("_", " "), value


def _history(facts: Facts) -> Iterator[Block]:
    rows = tuple(
        (str(record.id), record.name or _recipe(record.recipe), f"{record.score:.2%}", _bytes(record.bytes),
         time.strftime("%Y-%m-%d %H:%M", time.gmtime(record.time)))
        for record in facts.path
    )  # fmt: skip
    yield Table(
        ("setting", "recipe or name", _JUDGED[facts.record.judged], "packed", "measured (UTC)"), rows, numbers=2
    )
    versions = ", ".join(f"{name} {version}" for name, version in sorted(facts.record.versions.items()))
    if versions:
        yield Paragraph(f"Measured with {versions}.")


def _reproduce(facts: Facts) -> Iterator[Block]:
    from workbench import __version__

    model, data, split = facts.session.model.name, facts.session.data.name, facts.session.key.split
    subject = f"--model {shlex.quote(model)} --data {shlex.quote(data)}"
    format_ = "onnx-int8" if facts.onnx and facts.onnx[1] else "onnx"
    yield Paragraph(f"With Compression Workbench {__version__}, and the recipe above in a file recipe.yaml:")
    yield Code(
        f"workbench evaluate {subject} --split {split} --recipe recipe.yaml --save model.wbz\n"
        f"workbench export {subject} --recipe recipe.yaml --format {format_} --out exported\n"
        "workbench benchmark exported/*.onnx",
        "sh",
    )
    # what runs images is rounded by the kernels of a processor, and by how many threads share a sum
    calibrated = facts.recipe.cost is not Cost.LIVE
    also = " On another kind of processor, or with more threads, calibrated steps may differ." if calibrated else ""
    yield Paragraph(f"The same model, data, recipe and versions give the same bytes and the same answers again.{also}")


def _size(facts: Facts) -> Size:
    size = facts.setting.snapshot.size
    assert size is not None
    return size


def _rate(value: float, n: int) -> str:
    share = wilson(round(value * n), n)
    return f"{value:.2%} [{share.low:.2%}–{share.high:.2%}]"


def _change(change: Change) -> str:
    return f"{points(change.value)} [{points(change.low)} to {points(change.high)}]"


def _interval(value: float, low: float, high: float, unit: str) -> str:
    gap = "" if unit.startswith("×") else " "
    return f"{value:.3g}{gap}{unit} [{low:.3g}–{high:.3g}]"


def _bytes(count: int) -> str:
    return f"{count / 1e6:.2f} MB" if count >= 1e6 else f"{count / 1e3:.1f} kB" if count >= 1e3 else f"{count} bytes"


def _recipe(text: str) -> str:
    """Return a recipe as the history keeps it, in one line: ``prune {ratio: 0.5}, quantize {bits: 4}``."""
    steps = [f"{name} {_plain(given)}" for step in Recipe.parse(text).to_data() for name, given in step.items()]
    told = ", ".join(steps) or "the dense model"
    return told if len(told) <= _LONGEST else f"{told[: _LONGEST - 1]}…"


def _plain(value: Any) -> str:
    """Return settings as YAML's flow style has them."""
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{name}: {_plain(given)}' for name, given in value.items())}}}"
    return f"[{', '.join(map(_plain, value))}]" if isinstance(value, list) else str(value)


def _name(path: str) -> str:
    return path.rsplit("/", 1)[-1]
