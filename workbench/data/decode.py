"""Encoded images (PNG, JPEG, ...) to one uint8 tensor, whatever their modes and sizes."""

from __future__ import annotations

import io
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from workbench.errors import WorkbenchError

from .checks import capital, require_memory, shown
from .options import Options

if TYPE_CHECKING:
    from PIL.Image import Image

#: Modes that hold one grey channel. ``LA``'s alpha is dropped, as ``RGBA``'s is.
GREY = {"1", "L", "LA", "I;16", "I;16B", "I;16L", "I"}

#: An image to decode: what to call it in a message, and its file or bytes.
Encoded = tuple[str, "Path | bytes"]


def decode(encoded: Sequence[Encoded], options: Options, what: str) -> tuple[Tensor, list[str]]:
    """Return uint8 images ``(N, C, H, W)`` and notes on what was changed.

    Grey if all images are grey, else RGB (``options.channels`` decides otherwise); alpha is dropped, 16
    bits are cut to 8. Sizes that differ are brought to ``options.image_size`` or, without it, to the most
    common size: scaled to cover it, then centre-cropped. Raises ``WorkbenchError`` naming the image that
    cannot be read.
    """
    if not encoded:
        raise WorkbenchError(f"{capital(what)} has no images.")
    with warnings.catch_warnings(), ThreadPoolExecutor(2) as pool:
        warnings.simplefilter("ignore")  # about odd but readable files; it holds for all threads
        heads = [head for chunk in pool.map(_read_heads, batched(encoded)) for head in chunk]
        modes = Counter(mode for mode, _ in heads)
        sizes = Counter(size for _, size in heads)
        grey = options.channels == 1 if options.channels else set(modes) <= GREY
        width, height = size = _wanted_size(options, sizes)
        shape = (len(encoded), height, width) if grey else (len(encoded), height, width, 3)
        require_memory(2 * math.prod(shape), what)
        pixels: NDArray[np.uint8] = np.empty(shape, np.uint8)

        def fill(rows: NDArray[np.uint8], chunk: Sequence[Encoded]) -> None:
            for row, one in zip(rows, chunk, strict=True):
                row[...] = _read_pixels(one, size, grey)

        list(pool.map(fill, batched(pixels), batched(encoded)))
    images = torch.from_numpy(pixels)
    images = images.unsqueeze(1) if grey else images.permute(0, 3, 1, 2).contiguous()
    return images, _notes(modes, sizes, size, grey)


def batched(items: Any) -> Iterator[Any]:
    """Yield slices of 256 items."""
    return (items[start : start + 256] for start in range(0, len(items), 256))


def _wanted_size(options: Options, sizes: Counter[tuple[int, int]]) -> tuple[int, int]:
    """Width and height: as asked, or the most common, or of equally common ones the widest."""
    if options.image_size is not None:
        height, width = options.image_size
        return width, height
    return max(sizes, key=lambda size: (sizes[size], size))


def _notes(
    modes: Counter[str], sizes: Counter[tuple[int, int]], size: tuple[int, int], grey: bool
) -> list[str]:
    notes = []
    total = sum(sizes.values())
    resized = total - sizes[size]
    if resized:
        notes.append(
            f"{resized:,} of {total:,} images had another size and were scaled to cover {size[1]}×{size[0]} "
            f"(height×width) and centre-cropped."
        )
    dull = sum(count for mode, count in modes.items() if mode in GREY)
    if grey and dull < total:
        notes.append(f"{total - dull:,} of {total:,} images were in colour and were made grey.")
    if not grey and dull:
        notes.append(f"{dull:,} of {total:,} images were grey and were made RGB.")
    deep = sum(count for mode, count in modes.items() if mode.startswith("I"))
    if deep:
        notes.append(f"{deep:,} of {total:,} images had 16 bits a channel; the upper 8 were kept.")
    return notes


def _read_heads(chunk: Sequence[Encoded]) -> list[tuple[str, tuple[int, int]]]:
    return [_read_head(one) for one in chunk]


def _read_head(encoded: Encoded) -> tuple[str, tuple[int, int]]:
    with _open(encoded) as image:
        if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
            raise WorkbenchError(
                f"Image '{encoded[0]}' has pixels of mode {image.mode}, whose range is unknown; save it with "
                f"8 or 16 bits a channel."
            )
        return image.mode, image.size


def _read_pixels(encoded: Encoded, size: tuple[int, int], grey: bool) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps

    with _open(encoded) as image:
        try:
            image.load()
        except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, ...
            raise _unreadable(encoded[0], error) from None
        plain: Image.Image = image
        if image.mode.startswith("I"):
            # convert("L") would clip 16-bit values at 255 rather than scale them
            plain = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
        plain = plain.convert("L" if grey else "RGB")
        if plain.size != size:
            plain = ImageOps.fit(plain, size, Image.Resampling.BILINEAR)
        return np.asarray(plain)


def _open(encoded: Encoded) -> Image:
    from PIL import Image

    name, content = encoded
    try:
        return Image.open(io.BytesIO(content) if isinstance(content, bytes) else content)
    except Exception as error:
        raise _unreadable(name, error) from None


def _unreadable(name: str, error: Exception) -> WorkbenchError:
    reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    if "cannot identify image file" in reason:
        reason = "it is no image, or its beginning is damaged"
    return WorkbenchError(f"Image '{shown(name)}' cannot be read: {shown(reason)}; replace or remove it.")
