"""What all trained steps share: their settings, and how what a job learned is put in place.

Training takes minutes, so a recipe names it and does not do it. The key of what it learned is a hash of all
that it depends on: everything done to the model before, the step's settings, the training split. A job
(``workbench.train``) leaves the learned tensors under that key; ``apply`` finds them there, or says plainly
that they are missing. Grids, codebooks and masks stay what earlier steps decided: a tensor that is stored in
a way of its own takes over what was learned by ``Storage.retrained``.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self, TypeVar

from pydantic import Field, model_validator

from workbench.errors import WorkbenchError
from workbench.models.edits import BinarizeInput, QuantizeInput

from ..base import Cost, Settings, Technique, When
from ..posterior import Posterior
from ..storage import Codes, has_signs
from .made import LearnFrom

if TYPE_CHECKING:
    from workbench.encodings.artefacts import Artefact

    from ..context import Context
    from ..draft import Draft

#: Raised by whatever changes what the same settings learn, so that older results are not taken for new ones: of all
#: techniques, and of one.
FORMAT = 1
FORMATS = dict.fromkeys(
    (
        "find_ticket", "learn_gates", "prune_gradually", "reconstruct", "regularize", "sparsify_bayesian",
        "train_n_of_m", "train_sparse",
    ),
    2,
)  # fmt: skip


class MissingTraining(WorkbenchError):
    """A recipe with a trained step that no job has trained yet."""


def views_of(augment: str, erase: float, randaugment: int, mix: str) -> int | None:
    """Return what a training image can be: itself (1), or mirrored too (2); None where chance makes more of it."""
    if erase > 0 or randaugment > 0 or mix != "none":
        return None
    return {"none": 1, "flip": 2}.get(augment)


def clipped(longest: float | None) -> Any:
    """Return the field ``gradient_clip`` with a default (Pascanu, Mikolov and Bengio 2013)."""
    return Field(
        longest, gt=0, le=1e6,
        description="Longest gradient of a step, as the norm over all that learns; a longer one is shortened to it.",
    )  # fmt: skip


class TrainingSettings(Settings):
    """How long and in which way to train; every trained technique has these."""

    added: ClassVar[frozenset[str]] = frozenset(
        {
            "minutes", "erase", "learn_from", "accumulate", "precision", "gradient_checkpointing",
            "randaugment", "mix", "alpha", "gradient_clip", "keep",
        }
    )  # fmt: skip
    when: ClassVar[Mapping[str, When]] = {"alpha": {"mix": ("mixup", "cutmix")}}
    #: Settings that each say how many times more the epochs are gone through.
    again: ClassVar[tuple[str, ...]] = ()
    #: Settings that a layer may have of its own, since they say how its weight is held.
    own: ClassVar[frozenset[str]] = frozenset()

    epochs: int = Field(3, ge=1, le=1000, description="Passes over the training images.")
    learning_rate: float = Field(0.01, gt=0, le=10, description="Step size at its highest.")
    optimizer: Literal["sgd", "adamw"] = Field("sgd", description="SGD with Nesterov momentum 0.9, or AdamW.")
    schedule: Literal["cosine", "constant"] = Field(
        "cosine", description="How the step size falls: half a cosine to zero after a short warm-up, or not at all."
    )
    batch: int = Field(64, ge=1, le=4096, description="Images a step.")
    weight_decay: float = Field(1e-4, ge=0, le=1, description="Pull of the weights towards zero.")
    augment: Literal["none", "flip", "crop", "crop_flip"] = Field(
        "crop_flip", description="Training images mirrored at random, cut out of a padded self, or both."
    )
    patience: int | None = Field(
        None, ge=1, le=1000, description="Stop after so many epochs without a better validation accuracy."
    )
    keep: Literal["best", "last"] = Field(
        "best",
        description="Keep the epoch that is most accurate on the validation images, or the last one: the step size has "
        "fallen to zero by then, and nothing is chosen by the chance of a few images.",
    )
    images: int | None = Field(None, ge=1, description="Train on this many images at most; all of them unless said.")
    minutes: float | None = Field(
        None, gt=0, le=100_000, description="Stop after so many minutes of training, and keep the best state till then."
    )
    erase: float = Field(
        0.0, ge=0, lt=1, description="Side of a square that is erased from each training image, as a share of its side."
    )
    learn_from: LearnFrom = Field(
        "train", description="The training images, or images made up: from the model alone, or from training images."
    )
    randaugment: int = Field(
        0, ge=0, le=29, description="Strength of RandAugment: two operations by chance on each image. 0: none."
    )
    mix: Literal["none", "mixup", "cutmix"] = Field(
        "none", description="Each image mixed with another of its batch: averaged, or a rectangle of it put in."
    )
    alpha: float = Field(
        1.0, gt=0, le=100, description="How evenly images are mixed: the share is drawn from Beta(alpha, alpha)."
    )
    accumulate: int = Field(
        1, ge=1, le=4096,
        description="Parts that a batch is computed in, gradients added up: less memory. BatchNorm sees the parts.",
    )  # fmt: skip
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32",
        description="Arithmetic of products; one of 16 bits is measured first and used where it is quicker.",
    )
    gradient_clip: float | None = clipped(None)
    gradient_checkpointing: bool = Field(
        False, description="Compute what is inside a block a second time instead of keeping it: less memory, more time."
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Decides the order of images and every other chance.")

    @classmethod
    def whole(cls) -> frozenset[str]:
        """Return all but ``own``: layers are trained together, by one loss and one schedule."""
        return frozenset(cls.model_fields) - cls.own

    @model_validator(mode="after")
    def _patience_goes_by_the_best(self) -> Self:
        if self.patience is not None and self.keep == "last":
            raise ValueError(
                "patience waits for a better epoch, and keep: last keeps the last one; leave one of them out"
            )
        return self

    @property
    def views(self) -> int | None:
        """What a training image can be; see ``views_of``."""
        return views_of(self.augment, self.erase, self.randaugment, self.mix)

    @property
    def passes(self) -> int:
        """Passes over the images in all, those of rounds and of assistants included."""
        return math.prod((self.epochs, *(1 + int(getattr(self, name)) for name in self.again)))

    @property
    def by(self) -> str:
        """Who teaches: ``uncompressed``, ``itself``, a model's name or its file; the first where nobody does."""
        return "uncompressed"


T = TypeVar("T", bound=TrainingSettings)


def training_key(technique: str, layers: Mapping[str, TrainingSettings], draft: Draft, context: Context) -> str:
    """Return the key of what a step learns from the model as ``draft`` has it, on the context's data.

    ``layers`` are those it acts on, each with its settings; the first one's are those of the training.
    """
    if context.training is None:
        raise WorkbenchError(f"'{technique}' needs training data: give a dataset with a split 'train'.")
    settings = next(iter(layers.values()))
    parts: list[Any] = [
        FORMATS.get(technique, FORMAT),
        technique,
        settings.hashed(),
        draft.state,
        context.training.hash,
    ]
    parts.append(str(context.normalization))
    if any(has_signs(storage) for storage in draft.stored.values()):
        parts.append("signs")
    if len(layers) < len(draft.layers) or any(own != settings for own in layers.values()):
        parts.append({name: own.hashed() for name, own in layers.items()})
    if teacher := teacher_file(settings):
        parts.append(teacher)
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def teacher_file(settings: TrainingSettings) -> str:
    """Return the SHA-256 of the file that teaches: another one under the same name is another teacher.

    Empty where no file teaches, and where it can't be read, which training tells.
    """
    path = Path(settings.by)
    try:
        about = path.stat() if path.suffix and path.is_file() else None
        return "" if about is None else _digest(path.resolve(), about.st_mtime_ns, about.st_size)
    except OSError:
        return ""


@lru_cache(maxsize=32)
def _digest(path: Path, modified: int, size: int) -> str:
    """Return a file's SHA-256, once for as long as it was not written again: recipes are hashed at every move."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def trained_technique(name: str, summary: str, settings: type[T], source: str, url: str, **more: Any) -> Technique[T]:
    """Return a technique whose step is looked up; ``workbench.train`` knows how it is trained.

    It has no examples: those of ``workbench techniques`` work on any model at once.
    """

    def cost(_: T) -> Cost:
        return Cost.TRAINED

    return Technique(
        name=name, summary=summary, source=source, url=url, settings=settings, apply=_applier(name), cost=cost,
        examples=(), **more,
    )  # fmt: skip


def _applier(name: str) -> Callable[[Draft, Mapping[str, Any], Context], None]:
    def apply(draft: Draft, settings: Mapping[str, Any], context: Context) -> None:
        if not settings:
            return
        key = training_key(name, settings, draft, context)
        artefact = context.cache.get(("trained", key), lambda: context.artefacts.find(key))
        if artefact is None:
            context.cache.forget(("trained", key))
            raise MissingTraining(
                f"The step '{name}' has not been trained for this recipe yet: start its training, or take the step out."
            )
        put_learned(draft, artefact, f"{name} {key}")

    return apply


def put_learned(draft: Draft, artefact: Artefact, how: str) -> None:
    """Put an artefact's tensors into ``draft``: ``NAME`` is a new value, ``NAME|PART`` what a storage learned.

    The part ``kept`` is false where a weight was pruned while it learned; ``LAYER|input`` is the step of the grid
    on which a layer's input is rounded, ``LAYER|input_zero`` the code of zero where that was learned, and
    ``LAYER|input_centre`` the middle of two values. A part ``grid``
    says that the weight is now stored on one; ``mean`` and ``variance`` are its posterior.
    """
    parts: dict[str, dict[str, Any]] = {}
    for entry, tensor in artefact.tensors.items():
        name, _, part = entry.partition("|")
        parts.setdefault(name, {})[part] = tensor
    for layer in [name for name, learned in parts.items() if "input" in learned]:
        _put_input(draft, layer, parts.pop(layer))
    for name, learned in parts.items():
        kept, variance = learned.pop("kept", None), learned.pop("variance", None)
        draft.posteriors.pop(name, None)
        storage = draft.stored.get(name)
        new = None if storage is None else storage.retrained(learned)
        if "grid" in learned:
            draft.store(name, _on_grid(learned), how)
        elif storage is None:
            draft.set_tensor(name, learned[""], how)
        elif new is not None:
            draft.store(name, new, how)
        if name in draft.stored and "" in learned:
            draft.unrounded[name] = learned[""]
        if kept is not None:
            draft.zero(name, ~kept, how)
        if variance is not None:
            draft.posteriors[name] = Posterior(learned["mean"], variance)


def _on_grid(learned: Mapping[str, Any]) -> Codes:
    """Return a weight whose grid was learned with it: ``grid`` is its bits and the axis of its slices, -1 for none."""
    bits, axis = learned["grid"].tolist()
    return Codes(learned["codes"], learned["scale"], learned["zero_point"], None if axis < 0 else axis, bits)


def _put_input(draft: Draft, layer: str, learned: Mapping[str, Any]) -> None:
    for edit in draft.edits:
        if isinstance(edit, BinarizeInput) and edit.layer == layer:
            centre = float(learned.get("input_centre", edit.centre))
            draft.quantize_input(replace(edit, scale=float(learned["input"]), centre=centre))
            return
        if type(edit) is QuantizeInput and edit.layer == layer:
            zero = int(learned.get("input_zero", edit.zero_point))
            draft.quantize_input(replace(edit, scale=float(learned["input"]), zero_point=zero))
            return
