"""An image of one's own: an uploaded file, piece by piece, to the pixels a model takes."""

from __future__ import annotations

import io
import warnings
from typing import TYPE_CHECKING

import numpy as np

from workbench.data.decode import FORMATS
from workbench.errors import WorkbenchError

from .pixels import Pixels

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_BYTES = 20_000_000
#: A file of a few kilobytes can unfold to gigabytes of pixels.
MAX_PIXELS = 64_000_000


class Incoming:
    """A file on its way from the page. Raises ``WorkbenchError`` where it is too large, or pieces are missing."""

    def __init__(self, name: str, nbytes: int) -> None:
        self.name = name[:80] or "The image"
        if nbytes > MAX_BYTES:
            raise WorkbenchError(
                f"'{self.name}' has {nbytes / 1e6:,.0f} MB; an image may have {MAX_BYTES // 1_000_000} MB."
            )
        self._nbytes = nbytes
        self._data = bytearray()

    def add(self, piece: bytes | memoryview, at: int) -> bool:
        """Take a piece that begins ``at`` this byte; return whether the file is complete."""
        if at != len(self._data) or at + len(piece) > self._nbytes:
            raise WorkbenchError(f"'{self.name}' did not arrive whole; choose it again.")
        self._data += piece
        return len(self._data) == self._nbytes

    @property
    def content(self) -> bytes:
        """The bytes so far."""
        return bytes(self._data)


def read_picture(name: str, content: bytes, shape: tuple[int, ...]) -> Pixels:
    """Return an encoded image as ``(H, W, 3)``, or ``(H, W, 1)`` unless the model takes three channels.

    ``shape`` ``(C, H, W)`` is what the model takes. The image is turned as its camera noted, scaled to
    cover the height and width, and centre-cropped, as images of a folder are; alpha is dropped. Raises
    ``WorkbenchError`` for what is no image, is damaged, or has more than ``MAX_PIXELS``.
    """
    from PIL import Image

    _, height, width = shape
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Pillow, about odd but readable files
        try:
            with Image.open(io.BytesIO(content), formats=FORMATS) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise WorkbenchError(
                        f"'{name}' has {image.width:,}×{image.height:,} pixels, more than can be opened here; "
                        "make it smaller."
                    )
                return _fit(image, (width, height), grey=shape[0] != 3)
        except WorkbenchError:
            raise
        except Exception as error:  # Pillow's decoders raise OSError, SyntaxError, struct.error, ...
            raise WorkbenchError(_reason(name, error)) from None


def _fit(image: Image, size: tuple[int, int], grey: bool) -> Pixels:
    from PIL import Image, ImageOps

    if not image.mode.startswith("I"):
        image.draft("L" if grey else "RGB", (2 * size[0], 2 * size[1]))  # a large JPEG need not be read in full
    image.load()
    plain: Image.Image = ImageOps.exif_transpose(image)
    if plain.mode.startswith("I"):
        # convert("L") would clip 16-bit values at 255 rather than scale them
        plain = Image.fromarray((np.asarray(plain).astype(np.uint32) >> 8).astype(np.uint8))
    plain = plain.convert("L" if grey else "RGB")
    pixels = np.asarray(ImageOps.fit(plain, size, Image.Resampling.BILINEAR))
    return pixels[..., None] if grey else pixels


def _reason(name: str, error: Exception) -> str:
    text = str(error).lower()
    if "truncated" in text or "broken" in text:
        return f"'{name}' is cut off: only part of the image is there."
    if "decompression bomb" in text:
        return f"'{name}' unfolds to more pixels than can be opened here; make it smaller."
    return f"'{name}' is no image that can be read (PNG, JPEG and WebP can)."
