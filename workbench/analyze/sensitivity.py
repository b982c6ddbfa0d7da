"""How much accuracy each layer costs when it alone is compressed, level by level.

A sweep asks one question of every layer: with all others left dense, what is the accuracy at each level of
one setting? It shows which layers bear compression and which don't, and the surrogate foresees whole
recipes from it. ``measure_sensitivity`` starts the sweep as a Job in the background; how it is run
quickly is told in ``sweep``.

Source: Li et al. 2017, "Pruning Filters for Efficient ConvNets" (figure 2); Han et al. 2015 (figure 6).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from workbench.editing import step_of
from workbench.errors import WorkbenchError
from workbench.recipe import Recipe
from workbench.techniques import TECHNIQUES

from .finding import Floats, Mode, Question, Sensitivity
from .ordering import ORDER

if TYPE_CHECKING:
    from workbench.run.executor import Executor
    from workbench.session import Session

    from .sweep import SensitivityJob

__all__ = [
    "Floats",
    "Question",
    "Sensitivity",
    "chosen_layers",
    "measure_sensitivity",
    "shared_settings",
    "what_to_vary",
]


def measure_sensitivity(
    session: Session,
    technique: str = "prune",
    *,
    setting: str | None = None,
    values: Sequence[Any] | None = None,
    layers: Iterable[str] | None = None,
    tolerance: float | None = None,
    recipe: Recipe | None = None,
    mode: Mode = "only",
    relative: float | None = None,
    order: float | None = ORDER,
    start: Sensitivity | None = None,
    executor: str | Executor | None = None,
    keep: bool = False,
) -> SensitivityJob:
    """Start measuring how sensitive each layer is, and return the Job.

    Args:
        session: Whose model and split are used.
        technique: What each layer is compressed by.
        setting: The setting to vary; the technique's dial (``ratio``, ``bits``) unless said.
        values: Its levels, from mild to harsh; the dial's unless said.
        layers: Names or glob patterns; all layers unless said.
        tolerance: Stop a cell once its accuracy is known to ± so much (a share), or to ± a tenth of what it
            lost where that is more. Every image is run where it is None.
        recipe: Whose other settings of ``technique`` (such as the grid's scheme) are used; the session's
            present one unless said.
        mode: ``only``: the layer alone is compressed; ``others``: all layers but this one.
        relative: With a tolerance, the share of its loss that is narrow enough; a tenth unless said.
        order: With a tolerance, the layers' order is found too: cells that decide it go on until its rank correlation
            with the order on all images is so much, in nine draws of ten (``ordering``). None: the intervals alone.
        start: An earlier answer to go on from, as far as it asked the same; ``keeping`` stores and reads one.
        keep: Write what is found to the session's history as it comes, and go on from what it has of the same.
        executor: ``threads`` unless said; ``inline``, ``processes``, or the address of a Dask scheduler.

    Raises:
        WorkbenchError: an unknown technique, setting, layer or value; a scheduler that is not there.

    >>> from workbench.session import Session
    >>> with Session("lenet300", "fashion_mnist", history=":memory:") as session:
    ...     found = measure_sensitivity(session, "quantize", values=[8, 1], tolerance=0.02).result()
    >>> found.layers, found.levels, bool((found.lost[:, 0] < 0.03).all()), bool(found.lost[0, 1] > 0.1)
    (('fc1', 'fc2', 'fc3'), (8, 1), True, True)
    """
    from .keeping import Keeper, recall
    from .sweep import RELATIVE, SensitivityJob

    if tolerance is not None and not tolerance > 0:
        raise WorkbenchError(f"The tolerance is {tolerance:g}, but it should be above 0.")
    if order is not None and not 0 <= order < 1:
        raise WorkbenchError(f"The order's rank correlation is {order:g}, but it should be from 0 to below 1.")
    dial, levels = what_to_vary(technique, setting, values)
    chosen = chosen_layers(session, layers)
    shared = shared_settings(session.recipe if recipe is None else recipe, technique, dial)
    question = Question(technique, dial, levels, chosen, shared, mode, _groups(session, chosen, mode))
    for level in levels:
        question.recipe(chosen[0], level)  # a value that the technique refuses is said before anything runs
    within = RELATIVE if relative is None else relative
    if keep and start is None:
        start = recall(session, question)
    keeper = Keeper(session, question) if keep else None
    return SensitivityJob(
        session, question, tolerance, relative=within, order=order, start=start, executor=executor, keeper=keeper
    )


def _groups(session: Session, layers: tuple[str, ...], mode: Mode) -> tuple[tuple[str, ...], ...]:
    """Return what each row compresses, where that is not its own layer alone."""
    if mode == "only":
        return ()
    if mode != "others":
        raise WorkbenchError(f"There is no mode '{mode}' of a sweep; there are 'only' and 'others'.")
    names = [layer.name for layer in session.layers]
    if len(names) < 2:
        raise WorkbenchError("All but this layer leaves nothing: the model has a single layer.")
    return tuple(tuple(name for name in names if name != layer) for layer in layers)


def what_to_vary(technique: str, setting: str | None, values: Sequence[Any] | None) -> tuple[str, tuple[Any, ...]]:
    """Return the setting to vary and its levels; raises ``WorkbenchError`` for what the technique does not have."""
    if technique not in TECHNIQUES:
        raise WorkbenchError(f"There is no technique '{technique}'; there is {', '.join(TECHNIQUES)}.")
    dial = TECHNIQUES[technique].dial
    setting = setting or (dial.setting if dial else None)
    if setting is None:
        raise WorkbenchError(f"'{technique}' has no setting that stands for how hard it compresses: name one.")
    fields = TECHNIQUES[technique].settings.model_fields
    if setting not in fields:
        raise WorkbenchError(f"'{technique}' has no setting '{setting}'; there are {', '.join(fields)}.")
    if values is None and (dial is None or setting != dial.setting):
        raise WorkbenchError(f"Which values of '{setting}' are to be tried? There is no usual choice.")
    levels = tuple(dict.fromkeys(values if values is not None else dial.levels if dial else ()))
    if not levels:
        raise WorkbenchError("At least one value is needed.")
    return setting, levels


def shared_settings(recipe: Recipe, technique: str, setting: str) -> dict[str, Any]:
    """Return the settings, beside ``setting``, that the cells take over from a person's ``recipe``.

    Those that are optional are left out (a threshold, quantized activations): they would act beside the
    setting that is varied.
    """
    definition, step = TECHNIQUES[technique], step_of(recipe, technique)
    given = step.settings.model_dump(mode="json", exclude_unset=True) if step else {}
    fields = definition.settings.model_fields
    kept = {
        name: value
        for name, value in given.items()
        if name != setting and fields[name].default is not None and value != fields[name].default
    }
    dial = definition.dial
    if dial is None or setting != dial.setting:
        return {name: value for name, value in kept.items() if dial is None or name != dial.setting}
    return {**kept, **{name: aim for name, aim in dial.alone.items() if aim is not None}}


def chosen_layers(session: Session, patterns: Iterable[str] | None) -> tuple[str, ...]:
    """Return the model's layers that names or glob patterns mean; raises ``WorkbenchError`` for one that means none."""
    names = tuple(layer.name for layer in session.layers)
    if patterns is None:
        return names
    wanted = tuple(patterns)
    for pattern in wanted:
        if not any(name == pattern or fnmatchcase(name, pattern) for name in names):
            raise WorkbenchError(f"'{pattern}' matches no layer; the first ones are {', '.join(names[:6])}.")
    chosen = tuple(name for name in names if any(name == wish or fnmatchcase(name, wish) for wish in wanted))
    if not chosen:
        raise WorkbenchError("At least one layer is needed.")
    return chosen
