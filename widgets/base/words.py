"""A recipe in a few words, as it is named beside its figures: ``60 % pruned · 4 bit · recalibrated``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from workbench.counting import counted

Fields = Mapping[str, Any]


def in_words(steps: Sequence[Mapping[str, Fields]]) -> str:
    """Return ``steps``, a recipe as plain data, in a few words.

    >>> in_words([{"prune": {"ratio": 0.6}}, {"quantize": {"bits": 4}}, {"recalibrate": {}}])
    '60 % pruned · 4 bit · recalibrated'
    """
    phrases = []
    for step in steps:
        for name, fields in step.items():
            phrase = _PHRASES.get(name, lambda _, name=name: name.replace("_", " "))(fields or {})
            phrases += [_with_layers(phrase, fields or {})] if phrase or (fields or {}).get("overrides") else []
    return " · ".join(phrases) or "dense"


def _prune(fields: Fields) -> str:
    granularity = fields.get("granularity", "weight")
    what = "" if granularity == "weight" else f"of {_UNITS.get(granularity, granularity + 's')} "
    if fields.get("threshold") is not None:
        return f"weights under {fields['threshold']:g} pruned"
    ratio = fields.get("ratio", 0.5)
    each = "of each layer " if fields.get("scope") == "layer" and not what else ""
    return f"{_percent(ratio)} {what or each}pruned" if ratio else ""


def _quantize(fields: Fields) -> str:
    bits = fields.get("bits", 16 if fields.get("format") in ("fp16", "bf16") else 8)
    if bits == 32:
        return ""
    width = str(fields.get("format") or "fp16") if bits == 16 else f"{bits} bit"
    details = ["symmetric"] if fields.get("scheme") == "symmetric" else []
    details += ["per tensor"] if fields.get("per") == "tensor" else []
    activations = fields.get("activations")
    if activations is not None:
        binary = activations.get("mode") == "binary"
        details.append("activations binary" if binary else f"activations {activations.get('bits', 8)} bit")
    return ", ".join([width, *details])


def _recalibrate(fields: Fields) -> str:
    return "recalibrated"


def _share(fields: Fields) -> str:
    bits = fields.get("bits", 4)
    if bits == 32:
        return ""
    if fields.get("method") == "hash":
        share = fields.get("buckets")
        return "hash buckets, " + (
            f"{counted(bits, 'bit')} a weight" if share is None else f"{_percent(share)} of the weights"
        )
    vectors = f" vectors of {fields.get('block', 4)}" if fields.get("method") == "product" else ""
    return f"codebook of {fields.get('entries') or 2**bits}{vectors}"


#: Methods whose names in a recipe say too little by themselves.
_TITLES = {
    "find_ticket": "Find a lottery ticket", "learn_gates": "Learn gates (L0)", "train_n_of_m": "Train N:M sparse",
    "sparsify_bayesian": "Sparsify, Bayesian",
}  # fmt: skip


def technique_title(name: str) -> str:
    """Return a technique's name as a heading.

    >>> technique_title("prune_gradually"), technique_title("train_n_of_m")
    ('Prune gradually', 'Train N:M sparse')
    """
    return _TITLES.get(name, name.replace("_", " ").capitalize())


_UNITS = {"filter": "channels", "n:m": "N:M groups", "layer": "blocks"}
_PHRASES: dict[str, Callable[[Fields], str]] = {
    "prune": _prune, "quantize": _quantize, "recalibrate": _recalibrate, "share": _share,
    "finetune": lambda _: "fine-tuned", "distill": lambda _: "distilled",
    "prune_gradually": lambda fields: f"{_percent(fields.get('ratio', 0.8))} pruned while training",
    "train_sparse": lambda fields: f"trained with {_percent(fields.get('ratio', 0.8))} missing",
    "find_ticket": lambda fields: f"ticket of {_percent(1 - fields.get('ratio', 0.9))}",
    "train_n_of_m": lambda fields: f"{fields.get('n', 2)}:{fields.get('m', 4)} trained",
    "reconstruct": lambda _: "layers reconstructed", "correct_bias": lambda _: "biases corrected",
}  # fmt: skip


def _with_layers(phrase: str, fields: Fields) -> str:
    """Add which layers a step is about, where it is not all of them alike."""
    notes = []
    layers = fields.get("layers", ["*"])
    if list(layers) != ["*"]:
        notes.append(f"in {layers[0]}" if len(layers) == 1 else f"in {len(layers)} patterns")
    own = len(fields.get("overrides") or {})
    if own:
        notes.append(f"{own} {'layer' if own == 1 else 'layers'} apart")
    return f"{phrase or 'as it is'} ({', '.join(notes)})" if notes else phrase


def _percent(share: float) -> str:
    return f"{round(share * 100, 1):g} %"
