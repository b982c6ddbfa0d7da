"""Which images to make, and how many: what a person may set."""

from __future__ import annotations

from typing import Any

from pydantic import Field, ValidationError

from workbench.errors import WorkbenchError
from workbench.techniques.base import Settings
from workbench.techniques.trained.made import Made


class Synthesis(Settings):
    """What to make images from. Settings that are None are the source's own (``workbench.train.synthetic.SOURCES``)."""

    source: Made = Field("deepinversion", description="What images are made from.")
    images: int | None = Field(None, ge=10, le=1_000_000, description="How many images are made.")
    steps: int | None = Field(None, ge=1, le=1_000_000, description="Steps of optimization, where there are any.")
    real: int | None = Field(
        None, ge=2, description="Training images that may be looked at, all classes alike; all of them unless said."
    )
    seed: int = Field(0, ge=0, le=2**31 - 1, description="Decides every chance.")

    @classmethod
    def parse(cls, text: str) -> Synthesis:
        """Return what ``text`` says, such as ``mixup`` or ``deepinversion,images=200,seed=1``.

        Raises ``WorkbenchError`` where it says nothing that can be done.
        """
        source, *settings = text.split(",")
        given: dict[str, Any] = {"source": source.strip()}
        for item in settings:
            name, sign, value = item.partition("=")
            if not sign:
                raise WorkbenchError(f"'{item}' is no setting of synthetic images: write it as images=200.")
            given[name.strip()] = value.strip()
        return cls.of(given)

    @classmethod
    def of(cls, given: dict[str, Any]) -> Synthesis:
        """Return the settings ``given``; raises ``WorkbenchError`` with the first that can't be."""
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            name = ".".join(map(str, first["loc"])) or "source"
            raise WorkbenchError(
                f"Synthetic images can't be made with {name}={first['input']!r}: {first['msg']}."
            ) from error

    def __str__(self) -> str:
        """Return what ``parse`` reads; settings at their default are left out."""
        given = self.model_dump(exclude_defaults=True, exclude={"source"})
        return ",".join([self.source, *(f"{name}={value}" for name, value in given.items())])
