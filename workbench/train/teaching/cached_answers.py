"""A teacher's answers to every training image, computed once and kept on disk.

They are the ones it would give in each step as long as the images stay what they are, so nothing may be changed
by chance. The file's name is a hash of teacher and images: another recipe with the same teacher finds it there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from workbench.encodings.artefacts import Artefact
from workbench.errors import WorkbenchError

from ..images.passes import TrainingImages

#: Images that the teacher is shown at once.
TOGETHER = 256


def answers_to(
    teacher: nn.Module, images: TrainingImages, folder: Path, check: Callable[[], None] = lambda: None
) -> Tensor:
    """Return the teacher's logits ``(N, classes)`` on all training images, in their order.

    Raises:
        WorkbenchError: images are augmented, so that they are others in each pass.
    """
    if images.changed:
        raise WorkbenchError(
            "A teacher's answers can be kept only where images stay what they are: set augment to none, erase and "
            "randaugment to 0 and mix to none, or answers to online."
        )
    path = folder / f"answers-{_key(teacher, images)}.safetensors"
    if path.exists():
        return Artefact.load(path).tensors["answers"]
    teacher.eval()
    parts = []
    for part in images.images.split(TOGETHER):
        check()
        with torch.no_grad():
            parts.append(teacher(images.normalize(part)))
    found = torch.cat(parts)
    Artefact({"answers": found}).save(path)
    return found


def _key(teacher: nn.Module, images: TrainingImages) -> str:
    digest = hashlib.sha256(repr((str(teacher), images.normalize, images.images.dtype)).encode())
    for name, tensor in teacher.state_dict().items():
        digest.update(name.encode())
        digest.update(tensor.detach().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    digest.update(images.images.contiguous().numpy().data)
    return digest.hexdigest()[:32]
