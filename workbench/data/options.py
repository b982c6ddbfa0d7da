"""What a person may ask of a loader, checked once and then passed along."""

from __future__ import annotations

from dataclasses import dataclass

from workbench.errors import WorkbenchError

from .dataset import Normalization


@dataclass(frozen=True)
class Options:
    """Settings of ``load_dataset``; the defaults mean "as the data are".

    ``classes``: names in label order; giving them also says that some may have no image.
    ``image_size``: ``(height, width)`` encoded images are brought to. ``channels``: 1 (grey) or 3
    (colour). ``validation_share`` and ``test_share``: parts of the images cut off where no such set
    was given. ``seed``: of those cuts.
    """

    classes: tuple[str, ...] | None = None
    normalization: Normalization | None = None
    image_size: tuple[int, int] | None = None
    channels: int | None = None
    validation_share: float = 0.2
    test_share: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        shares = (self.validation_share, self.test_share)
        if not (all(0 < share < 1 for share in shares) and sum(shares) < 1):
            raise WorkbenchError(
                f"validation_share {shares[0]} and test_share {shares[1]} must be between 0 and 1 and "
                f"leave something to train on."
            )
        if self.image_size is not None and not all(0 < side <= 4096 for side in self.image_size):
            raise WorkbenchError(f"image_size {self.image_size} must be two sides from 1 to 4096 pixels.")
        if self.channels not in (None, 1, 3):
            raise WorkbenchError(f"channels must be 1 (grey) or 3 (colour), not {self.channels}.")
        if self.classes is not None and len(set(self.classes)) != len(self.classes):
            raise WorkbenchError("classes must be different names; one is given twice.")

    def only(self, *allowed: str, where: str) -> Options:
        """Return itself, or raise ``WorkbenchError`` when a setting outside ``allowed`` was given."""
        default = Options()
        for name in self.__dataclass_fields__:
            if name not in allowed and getattr(self, name) != getattr(default, name):
                raise WorkbenchError(f"{name}= has no meaning for {where}; leave it out.")
        return self


def as_normalization(given: object) -> Normalization | None:
    """Return a ``Normalization`` from one, from a ``(mean, std)`` pair, or ``None`` from ``None``."""
    if given is None or isinstance(given, Normalization):
        return given
    mean: object
    std: object
    try:
        mean, std = given  # type: ignore[misc]
        return Normalization(_floats(mean), _floats(std))
    except (TypeError, ValueError) as error:
        if isinstance(error, WorkbenchError):
            raise
        raise WorkbenchError(
            f"normalization must be a (mean, std) pair, of numbers or of one number per channel, not {given!r}."
        ) from None


def as_image_size(given: object) -> tuple[int, int] | None:
    """Return ``(height, width)`` from such a pair or from one side of a square."""
    if given is None:
        return None
    sides = (given, given) if isinstance(given, int) else given
    if isinstance(sides, (tuple, list)) and len(sides) == 2 and all(type(side) is int for side in sides):
        return sides[0], sides[1]
    raise WorkbenchError(f"image_size must be a side or (height, width) in pixels, not {given!r}.")


def _floats(values: object) -> tuple[float, ...]:
    if isinstance(values, (int, float)):
        return (float(values),)
    return tuple(float(value) for value in values)  # type: ignore[attr-defined]
