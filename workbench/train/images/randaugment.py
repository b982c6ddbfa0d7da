"""RandAugment (Cubuk et al. 2020): two operations by chance, of fourteen that a picture bears, at one strength.

The operations are Kornia's. It draws the same for all images it is handed, so a batch is handed over in small
groups. On images that are not of three channels the one that changes colours is left out.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from workbench.errors import WorkbenchError

#: Operations an image, and images that share them.
OPERATIONS, GROUP = 2, 8


def rand_augmented(images: Tensor, strength: int, chance: torch.Generator) -> Tensor:
    """Return ``images`` ``(N, C, H, W)``, pixels from 0 to 1, changed at ``strength`` 1 to 29; 0 leaves them.

    Raises:
        WorkbenchError: Kornia is not installed, or a pixel is below 0 or above 1.
    """
    if not strength:
        return images
    if float(images.min()) < 0 or float(images.max()) > 1:
        raise WorkbenchError(
            "RandAugment needs pixels from 0 to 1, and these images have others: set randaugment to 0, or scale them."
        )
    change = _operations(strength, images.shape[1])
    seed = int(torch.randint(2**62, (), generator=chance))
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(seed)
        return torch.cat([change(group).clamp(0, 1) for group in images.split(GROUP)])


def _operations(strength: int, channels: int) -> Any:
    try:
        from kornia.augmentation.auto import RandAugment
        from kornia.augmentation.auto.rand_augment.rand_augment import default_policy
    except ImportError as missing:
        raise WorkbenchError(
            "RandAugment needs Kornia: install it with pip install 'compression-workbench[train]', or set "
            "randaugment to 0."
        ) from missing
    policy = [one for one in default_policy if channels == 3 or one[0][0] != "color"]
    return RandAugment(OPERATIONS, strength, policy=policy)
