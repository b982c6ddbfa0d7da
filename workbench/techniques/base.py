"""What a technique is: a name, typed settings, what it costs, and a function on a Draft.

A new technique is one file that makes a ``Technique`` and one line in the registry of
``workbench.techniques``; the CLI, the YAML validation and the controls are made from its settings.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias, TypeVar, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator

if TYPE_CHECKING:
    from .context import Context
    from .draft import Draft


#: Raised whenever calibrated steps are shown other images, so that figures measured before are not taken for new
#: ones: it is part of the hash of their recipes. 2: an order of chance, where some saw the first classes alone.
CALIBRATION = 2


class Cost(StrEnum):
    """What a technique with given settings needs: no time, seconds, a pass over calibration data, a job."""

    LIVE = "live"
    FITTED = "fitted"
    CALIBRATED = "calibrated"
    TRAINED = "trained"


#: What must hold for a setting to matter: other settings and their values, or several such of which one is enough.
When: TypeAlias = Mapping[str, tuple[Any, ...]] | tuple[Mapping[str, tuple[Any, ...]], ...]


class Settings(BaseModel):
    """Base of every technique's settings: frozen, unknown fields refused.

    ``added`` names the settings that came after recipes were first hashed: at their default they are
    left out of the hash, so that measured recipes keep theirs. ``when`` tells which settings matter only
    beside certain values of others (setting → other setting → its values; several such where one of them is
    enough), for controls and forms: what does not apply is mostly valid, and not shown. ``choices`` narrows a
    setting's options by the value of another (setting → the other, and its value → the options).
    ``alternatives`` are settings that say the same in other words, of which a new one takes the others' place.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", use_enum_values=True)
    added: ClassVar[frozenset[str]] = frozenset()
    when: ClassVar[Mapping[str, When]] = {}
    choices: ClassVar[Mapping[str, tuple[str, Mapping[Any, tuple[Any, ...]]]]] = {}
    alternatives: ClassVar[tuple[str, ...]] = ()

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_truth(cls, value: Any, info: ValidationInfo) -> Any:
        """Refuse ``true``, ``yes`` or ``off`` where a number is meant: they would count as 1 and 0."""
        if isinstance(value, bool) and info.field_name is not None:
            kind = cls.model_fields[info.field_name].annotation
            if int in (accepted := {kind, *get_args(kind)}) or float in accepted:
                raise ValueError("it should be a number")
        return value

    @classmethod
    def whole(cls) -> frozenset[str]:
        """Return the settings that hold for all layers of a step, so that none can have its own."""
        return frozenset()

    @classmethod
    def conditions(cls, name: str) -> tuple[Mapping[str, tuple[Any, ...]], ...]:
        """Return the conditions of which one must hold for the setting ``name`` to matter; none: it always does."""
        found = cls.when.get(name, ())
        return (found,) if isinstance(found, Mapping) else found

    @classmethod
    def hindrance(cls, name: str, values: Mapping[str, Any]) -> tuple[str, Any] | None:
        """Return another setting and its value with which ``name`` changes nothing; None where it matters.

        ``values`` are the settings that are given; the others have their defaults.
        """
        first: tuple[str, Any] | None = None
        for condition in cls.conditions(name):
            present = {other: values.get(other, cls.model_fields[other].default) for other in condition}
            failing = [(other, value) for other, value in present.items() if value not in condition[other]]
            if not failing:
                return None
            first = first or failing[0]
        return first

    @classmethod
    def merged(cls, fields: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``fields`` with ``changes``; of alternatives the changed one stays alone."""
        said = [name for name in cls.alternatives if changes.get(name) is not None]
        gone = {name for name in cls.alternatives if said and name not in changes}
        return {**{name: value for name, value in fields.items() if name not in gone}, **changes}

    def idle(self, names: Collection[str] | None = None) -> Iterator[tuple[str, str, Any]]:
        """Yield each setting that was given and changes nothing, and the other and its value that make it so.

        ``names`` are those looked at; all unless said.
        """
        values = dict(self)
        for name in self.model_fields_set if names is None else names:
            if values[name] == type(self).model_fields[name].default:
                continue
            hindrance = self.hindrance(name, values)
            if hindrance is not None:
                yield name, *hindrance
            elif isinstance(values[name], Settings):
                for inner, other, value in values[name].idle():
                    yield f"{name}.{inner}", f"{name}.{other}", value

    def hashed(self, names: Collection[str] | None = None) -> dict[str, Any]:
        """Return the settings as plain data, as a recipe's hash takes them; only those in ``names`` where given."""
        data = self.model_dump(mode="json")
        chosen = [name for name in data if not self._is_later_default(name)] if names is None else names
        return {name: self._hashed_value(name, data[name]) for name in chosen}

    def _is_later_default(self, name: str) -> bool:
        return name in self.added and getattr(self, name) == type(self).model_fields[name].default

    def _hashed_value(self, name: str, plain: Any) -> Any:
        value = getattr(self, name)
        return value.hashed() if isinstance(value, Settings) else plain


S = TypeVar("S", bound=Settings)


@dataclass(frozen=True)
class Dial:
    """The one setting of a technique that a slider moves, and that a sensitivity sweep varies.

    ``neutral`` is the value that leaves a layer as it is; ``levels`` are the values a sweep tries, from
    mild to harsh; ``alone`` are settings that make a layer's own value exactly its own (not a share of
    a ranking over many layers); ``percent`` tells that the value is a share, shown in per cent.
    """

    setting: str
    neutral: float
    levels: tuple[float, ...]
    alone: Mapping[str, Any] = field(default_factory=dict)
    percent: bool = False


@dataclass(frozen=True)
class Technique(Generic[S]):
    """One published way to compress.

    ``apply`` changes the Draft for the layers it is given, each with its own settings. ``cost`` tells
    from the settings whether the step follows a slider. ``examples`` are recipes in YAML that work on
    any model of the zoo. ``dial`` is None where no single setting stands for how hard it compresses.
    ``url`` is where the source can be read.
    """

    name: str
    summary: str
    source: str
    settings: type[S]
    apply: Callable[[Draft, Mapping[str, S], Context], None]
    cost: Callable[[S], Cost]
    examples: tuple[str, ...]
    dial: Dial | None = None
    url: str = ""

    def leaves(self, settings: Settings) -> bool:
        """Return whether a layer with these settings stays as it is."""
        if self.dial is None or getattr(settings, self.dial.setting) != self.dial.neutral:
            return False
        # what is optional acts beside the dial: a threshold, quantized activations
        optional = (name for name, field in self.settings.model_fields.items() if field.default is None)
        return all(getattr(settings, name) is None for name in optional)

    def to_json(self) -> dict[str, Any]:
        """Return the entry of ``workbench techniques --json``."""
        return {
            "name": self.name,
            "summary": self.summary,
            "cost_class": self.cost(self.settings()).value,
            "source": self.source,
            "url": self.url,
            "settings": self.settings.model_json_schema(),
            "examples": list(self.examples),
        }
