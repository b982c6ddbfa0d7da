"""A teacher's answers to every training image, computed once and kept on disk.

They are the ones it would give in each step as long as the images stay what they are, or are mirrored: then both
views are answered. Nothing else may be changed by chance. The file's name is a hash of teacher and images: another
recipe with the same teacher finds it there. As in each step, 16-bit arithmetic is used where it is asked for and
quicker.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from workbench.encodings.artefacts import Artefact
from workbench.errors import WorkbenchError
from workbench.models.behaviour import behaviour_of
from workbench.models.edits import InputQuantizer
from workbench.run.layout import quick_order

from ..images.passes import TrainingImages, mirrored
from ..loop.measuring import seconds_of
from ..loop.precision import DTYPES, Precision

#: Images that the teacher is shown at once: few enough for its features to stay in a processor's cache.
TOGETHER = 32
#: Images of a measurement: where a processor has no kernels for a type, more would take minutes.
FEW = 8


def answers_to(
    teacher: nn.Module,
    images: TrainingImages,
    folder: Path,
    check: Callable[[], None] = lambda: None,
    precision: str = "fp32",
) -> Tensor:
    """Return the teacher's logits ``(V * N, classes)`` on all training images, in their order, view after view.

    Raises:
        WorkbenchError: images are augmented, so that they are others in each pass.
    """
    if images.views is None:
        raise WorkbenchError(
            "A teacher's answers can be kept only where images stay what they are, or are mirrored: set augment to "
            "none or flip, erase and randaugment to 0 and mix to none, or answers to online."
        )
    path = folder / f"answers-{_key(teacher, images, precision)}.safetensors"
    if path.exists():
        return Artefact.load(path).tensors["answers"]
    teacher.eval()
    quick_order(teacher, images.normalize(images.images[:2]))  # convolutions in 16 bits take half the time so
    arithmetic = _quickest(precision, teacher, images, check)
    parts = []
    for turn in (_as_it_is, mirrored)[: images.views]:
        for part in images.images.split(TOGETHER):
            check()
            parts.append(_asked(teacher, turn(images.normalize(part)), arithmetic))
    found = torch.cat(parts)
    Artefact({"answers": found}).save(path)
    return found


def _as_it_is(images: Tensor) -> Tensor:
    return images


def _asked(teacher: nn.Module, images: Tensor, arithmetic: Precision) -> Tensor:
    with torch.no_grad(), arithmetic.autocast():
        answers: Tensor = teacher(images)
    return answers.float()


def _quickest(wanted: str, teacher: nn.Module, images: TrainingImages, check: Callable[[], None]) -> Precision:
    """Return the arithmetic in which some images take least: ``wanted``, or fp32."""
    device = images.images.device.type
    if wanted not in DTYPES:
        return Precision("fp32", device)
    some = images.normalize(images.images[:FEW])

    def way(name: str) -> Callable[[], None]:
        def run() -> None:
            _asked(teacher, some, Precision(name, device))

        return run

    seconds = seconds_of({name: way(name) for name in ("fp32", wanted)}, check)
    return Precision(min(seconds, key=lambda name: seconds[name]), device)


def _key(teacher: nn.Module, images: TrainingImages, precision: str) -> str:
    about = (str(teacher), images.normalize, images.images.dtype)
    more = (["mirrored"] if images.views == 2 else []) + ([precision] if precision in DTYPES else [])
    digest = hashlib.sha256(repr((*about, *more)).encode())
    for name, tensor in teacher.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    for told in behaviour_of(teacher):
        digest.update(told)
    for name, part in teacher.named_modules():
        for hook in part._forward_pre_hooks.values():
            if isinstance(hook, InputQuantizer):
                digest.update(f"{name} {hook.edit}".encode())
    digest.update(images.images.contiguous().numpy().data)
    return digest.hexdigest()[:32]
