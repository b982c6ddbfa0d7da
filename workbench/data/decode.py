"""Encoded images (PNG, JPEG, ...) to one uint8 tensor, whatever their modes and sizes."""

from __future__ import annotations

import io
import math
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

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

#: What Pillow may take a file for, whatever its name: no format that runs another program (EPS).
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "WEBP", "TIFF", "PPM")

#: An image's mode, and its width and height.
Head = tuple[str, tuple[int, int]]

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
        try:  # mostly all images are like the first, and then none need be opened twice
            heads = Counter({_read_head(encoded[0]): len(encoded)})
            images = _fill(encoded, heads, options, what, pool)
        except WorkbenchError:
            heads = Counter(head for chunk in pool.map(_read_heads, batched(encoded)) for head in chunk)
            images = _fill(encoded, heads, options, what, pool)
    return images, _notes(heads, _wanted_size(options, heads), images.shape[1] == 1)


def _fill(
    encoded: Sequence[Encoded], heads: Counter[Head], options: Options, what: str, pool: ThreadPoolExecutor
) -> Tensor:
    """Decode all images into one tensor; raise if one has a mode and size that are not in ``heads``."""
    grey = options.channels == 1 if options.channels else {mode for mode, _ in heads} <= GREY
    width, height = size = _wanted_size(options, heads)
    shape = (len(encoded), height, width) if grey else (len(encoded), height, width, 3)
    require_memory(2 * math.prod(shape), what)
    pixels: NDArray[np.uint8] = np.empty(shape, np.uint8)

    def fill(rows: NDArray[np.uint8], chunk: Sequence[Encoded]) -> None:
        for row, one in zip(rows, chunk, strict=True):
            row[...] = _read_pixels(one, size, grey, heads)

    list(pool.map(fill, batched(pixels), batched(encoded)))
    images = torch.from_numpy(pixels)
    return images.unsqueeze(1) if grey else images.permute(0, 3, 1, 2).contiguous()


def batched(items: Any) -> Iterator[Any]:
    """Yield slices of 256 items."""
    return (items[start : start + 256] for start in range(0, len(items), 256))


def _wanted_size(options: Options, heads: Counter[Head]) -> tuple[int, int]:
    """Width and height: as asked, or the most common, or of equally common ones the widest."""
    if options.image_size is not None:
        height, width = options.image_size
        return width, height
    sizes = _tally(heads, 1)
    width, height = max(sizes, key=lambda size: (sizes[size], size))
    return width, height


def _tally(heads: Counter[Head], place: Literal[0, 1]) -> Counter[Any]:
    """How often each mode (place 0) or size (1) occurs."""
    tally: Counter[Any] = Counter()
    for head, count in heads.items():
        tally[head[place]] += count
    return tally


def _notes(heads: Counter[Head], size: tuple[int, int], grey: bool) -> list[str]:
    modes, sizes = _tally(heads, 0), _tally(heads, 1)
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


def _read_heads(chunk: Sequence[Encoded]) -> list[Head]:
    return [_read_head(one) for one in chunk]


def _read_head(encoded: Encoded) -> Head:
    with _open(encoded) as image:
        _require_range(image, encoded[0])
        return image.mode, image.size


def _require_range(image: Image, name: str) -> None:
    if image.mode == "F" or (image.mode == "I" and image.format != "PNG"):
        raise WorkbenchError(
            f"Image '{shown(name)}' has pixels of mode {image.mode}, whose range is unknown; save it with "
            f"8 or 16 bits a channel."
        )


def in_eight_bits(image: Image, name: str, grey: bool | None = None) -> Image:
    """Return a loaded image in mode L or RGB, as it is unless ``grey`` says; the upper 8 of 16 bits a channel are kept.

    Raises ``WorkbenchError`` for pixels whose range is unknown.
    """
    from PIL import Image

    _require_range(image, name)
    mode = "L" if (image.mode in GREY if grey is None else grey) else "RGB"
    if image.mode.startswith("I"):
        # convert("L") would clip 16-bit values at 255 rather than scale them
        image = Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    return image.convert(mode)


def _read_pixels(encoded: Encoded, size: tuple[int, int], grey: bool, heads: Counter[Head]) -> NDArray[np.uint8]:
    from PIL import Image, ImageOps

    with _open(encoded) as image:
        if (image.mode, image.size) not in heads:
            raise WorkbenchError(f"Image '{shown(encoded[0])}' changed while it was read; try again.")
        try:
            image.load()
        except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, ...
            raise _unreadable(encoded[0], error) from None
        plain = in_eight_bits(image, encoded[0], grey)
        if plain.size != size:
            plain = ImageOps.fit(plain, size, Image.Resampling.BILINEAR)
        return np.asarray(plain)


def _open(encoded: Encoded) -> Image:
    from PIL import Image

    name, content = encoded
    try:
        return Image.open(io.BytesIO(content) if isinstance(content, bytes) else content, formats=FORMATS)
    except Exception as error:
        raise _unreadable(name, error) from None


def _unreadable(name: str, error: Exception) -> WorkbenchError:
    reason = str(error).splitlines()[0].rstrip(".") if str(error) else type(error).__name__
    if "cannot identify image file" in reason:
        reason = "it is no image, or its beginning is damaged"
    return WorkbenchError(f"Image '{shown(name)}' cannot be read: {shown(reason)}; replace or remove it.")
