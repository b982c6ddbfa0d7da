"""A profile in plain words: what dominates, which techniques would help and which would not, and why.

Every sentence follows from a figure of the profile, which it names. Suggestions are recipes to start from, each with
the reason; none claims a result, which only measuring gives.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from workbench.counting import counted
from workbench.recipe import Recipe

from .profile import LayerProfile, Profile

#: Share of the time or the size that is worth a sentence.
NOTABLE, MOST = 0.15, 0.5
CONVOLUTIONS = ("Conv1d", "Conv2d", "Conv3d")
MATRICES = ("Linear", "LSTM", "GRU", "RNN", "MultiheadAttention")


@dataclass(frozen=True)
class Suggestion:
    """A recipe to start from, as YAML, and why."""

    recipe: str
    why: str


@dataclass(frozen=True)
class Words:
    """Sentences on what ``dominates``, what ``helps`` and what ``does_not``, and recipes to start from."""

    dominates: tuple[str, ...]
    helps: tuple[str, ...]
    does_not: tuple[str, ...]
    suggestions: tuple[Suggestion, ...]

    def to_json(self) -> dict[str, Any]:
        """Return plain data for JSON."""
        return asdict(self)


def describe_profile(profile: Profile) -> Words:
    """Return what ``profile`` means for a person who wants the model smaller or faster."""
    helps, suggestions = _helps(profile)
    return Words(tuple(_dominates(profile)), tuple(helps), tuple(_does_not(profile)), tuple(suggestions))


def _dominates(profile: Profile) -> list[str]:
    timed = sorted((layer for layer in profile.layers if layer.share), key=lambda layer: -(layer.share or 0))
    sentences = []
    if timed:
        few, together = _few(timed)
        which = f"{len(few)} of {len(profile.layers)} layers: {_named(few)}"
        which = "all layers together" if together < MOST else which
        sentences.append(
            f"Of the {profile.ms:.2f} ms that an image takes in {_runtime(profile)} at one thread, {together:.0%} go "
            f"to {which}."
        )
    largest = sorted(profile.layers, key=lambda layer: -layer.weight_bytes)
    few, together = _few(largest, size=True)
    sentences.append(
        f"Of {_bytes(profile.weight_bytes)} of weights, {together:.0%} are in {len(few)} of {len(profile.layers)} "
        f"layers: {_named(few)}."
    )
    beside = profile.beside_ms / profile.ms if profile.ms else 0
    if beside >= NOTABLE:
        sentences.append(f"{beside:.0%} of the time is in no layer: activations, pooling, layouts being reordered.")
    ratio = profile.peak_bytes / max(1, profile.weight_bytes)
    sentences.append(
        f"Memory peaks at {_bytes(profile.peak_bytes)} of activations and workspaces beside "
        f"{_bytes(profile.weight_bytes)} of weights{': activations are the larger part' if ratio > 1 else ''}."
    )
    bound = sum(layer.share or 0 for layer in profile.layers if layer.limit == "memory")
    above = [layer for layer in profile.layers if layer.gflops and layer.gflops > layer.attainable]
    fast = [layer for layer in above if layer.limit == "memory"]
    busy = len(above) - len(fast)
    sentences.append(
        f"Layers with {bound:.0%} of the time do fewer than {profile.roofline.ridge:.1f} operations a byte, so memory "
        f"limits them where it must come from beyond the caches (peak {profile.roofline.peak:.0f} GFLOP/s, "
        f"{profile.roofline.bandwidth:.1f} GB/s)."
        + (f" {len(fast)} of them run above that roof: their weights stay in the caches." if fast else "")
        + (f" {busy} of the others run above the peak: this machine was busy when it was measured." if busy else "")
    )
    return sentences


def _helps(profile: Profile) -> tuple[list[str], list[Suggestion]]:
    sentences, suggestions = [], []
    convolved = sum(layer.share or 0 for layer in profile.layers if layer.type in CONVOLUTIONS)
    stored = profile.weight_bytes or 1
    matrices = sum(layer.weight_bytes for layer in profile.layers if layer.type in MATRICES) / stored
    if convolved >= NOTABLE:
        sentences.append(
            f"Removing channels shrinks what {convolved:.0%} of the time goes to: convolutions get smaller kernels, "
            "not zeros."
        )
        suggestions.append(Suggestion(
            "- prune: {granularity: filter, scope: layer, ratio: 0.5}\n- recalibrate: {}",
            "half of the channels: the surest way to less time here",
        ))  # fmt: skip
    computed = sum(layer.share or 0 for layer in profile.layers if layer.limit == "compute")
    if computed >= NOTABLE:
        sentences.append(
            f"8-bit weights and activations may speed up the {computed:.0%} that computing limits; whether they do "
            "depends on this processor's kernels, so measure it."
        )
    suggestions.append(Suggestion(
        "- quantize: {bits: 8, activations: {bits: 8}}", "a quarter of the size, usually at no loss",
    ))  # fmt: skip
    if matrices >= MOST:
        sentences.append(
            f"{matrices:.0%} of the weights are in matrices, which bear pruning of single weights, codebooks and "
            "low-rank factors: that shrinks the packed file most."
        )
        suggestions.append(Suggestion(
            "- prune: {ratio: 0.9}\n- share: {bits: 5}", "Deep Compression: what matrices bear, before any training"
        ))  # fmt: skip
    else:
        suggestions.append(Suggestion(
            "- prune: {ratio: 0.5}\n- quantize: {bits: 4}\n- recalibrate: {}", "a small packed file from conv weights",
        ))  # fmt: skip
    for suggestion in suggestions:
        Recipe.parse(suggestion.recipe)  # what is suggested must be valid
    return sentences, suggestions


def _does_not(profile: Profile) -> list[str]:
    sentences = [
        "Pruning single weights makes the packed file smaller and nothing faster: dense kernels multiply the zeros too."
    ]
    beside = profile.beside_ms / profile.ms if profile.ms else 0
    if beside >= NOTABLE:
        sentences.append(f"No technique touches the {beside:.0%} of the time that is in no layer.")
    idle = [layer for layer in profile.layers if (layer.share or 0) < 0.02 and layer.macs]
    if len(idle) > len(profile.layers) / 3:
        together = sum(layer.share or 0 for layer in idle)
        sentences.append(
            f"{counted(len(idle), 'layer')} with {together:.0%} of the time together: for speed, leave alone what "
            "takes so little."
        )
    if profile.peak_bytes > profile.weight_bytes:
        sentences.append("Fewer bits for weights do not lower the peak of memory: activations make it.")
    return sentences


def _few(ordered: list[LayerProfile], size: bool = False) -> tuple[list[LayerProfile], float]:
    """Return the first layers that together make half of the time (or size), and their share."""
    values = [layer.weight_bytes if size else layer.share or 0.0 for layer in ordered]
    total = (sum(values) or 1) if size else 1.0
    chosen, together = [], 0.0
    for layer, value in zip(ordered, values, strict=True):
        chosen.append(layer)
        together += value / total
        if together >= MOST:
            break
    return chosen, together


def _named(layers: list[LayerProfile]) -> str:
    names = [layer.name for layer in layers[:4]]
    return ", ".join(names) + (f" and {len(layers) - 4} more" if len(layers) > 4 else "")


def _runtime(profile: Profile) -> str:
    return {"onnxruntime": "ONNX Runtime", "torch": "PyTorch"}[profile.runtime]


def _bytes(size: float) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
