"""``workbench train``: win accuracy back by training, and save what came out."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from workbench.errors import WorkbenchError

from .common import Verbs, add_json, add_subject, add_synthetic, follow, load_data, read_recipe, require_packed

if TYPE_CHECKING:
    from workbench.train.creation import Creation


def add(verbs: Verbs[Any]) -> None:
    """Declare the verb."""
    verb = verbs.add_parser("train", help="train a compressed model to win accuracy back")
    add_subject(verb)
    add_synthetic(verb)
    verb.add_argument("--method", metavar="NAME", help="trained technique, such as finetune or distill")
    verb.add_argument("--recipe", metavar="FILE", help="recipe whose model is trained, '-' for standard input")
    verb.add_argument(
        "--set", action="append", default=[], metavar="NAME=VALUE", help="a setting of the method; may be repeated"
    )
    verb.add_argument(
        "--climb", type=float, metavar="POINTS",
        help="try ways to win accuracy back, cheapest first, until so many points at most are lost on validation",
    )  # fmt: skip
    verb.add_argument(
        "--transfer", action="store_true",
        help="first of all: give the model a new last layer for the data's classes and train it on them; "
        "--set takes the settings of finetune, and --out writes .safetensors that every verb takes as --model",
    )  # fmt: skip
    verb.add_argument(
        "--design", metavar="NAME[,width=X][,depth=X]",
        help="design a student from a zoo architecture and have --model teach it: resnet20,width=0.5,depth=0.67; "
        "--set takes the settings of distill, epochs=0 only tells what the student would need, --out as above",
    )  # fmt: skip
    verb.add_argument("--out", metavar="FILE", help="write the trained model as .wbz")
    verb.add_argument("--threads", type=int, default=1, metavar="N", help="cores to train on (default: 1)")
    add_json(verb)
    verb.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> int:
    from workbench.models.load import load_model
    from workbench.recipe import Recipe
    from workbench.train.jobs.job import train

    if options.out:
        _make_room(options.out)
    if options.transfer:
        return _transfer(options)
    if options.design:
        return _design(options)
    require_packed(options.out, "--out")
    if options.set and not options.method:
        raise WorkbenchError(
            f"--set {options.set[0]} belongs to no method: name one with --method, or write it into the recipe."
        )
    recipe = Recipe.parse(read_recipe(options.recipe)) if options.recipe else Recipe()
    if options.method:
        recipe = _with_method(recipe, options.method, options.set)
    model = load_model(options.model, architecture=options.architecture)
    data = load_data(options, model)
    if options.climb is not None:
        return _climb(options, model, data, recipe)
    job = train(model, data, recipe, options.threads)
    follow(job)
    trained = job.result()
    report = {
        **_measured(options, model, data, _untrained(recipe), recipe),
        "validation": {"before": trained.before.to_json(), "after": trained.after.to_json()},
        "seconds": trained.seconds, "took": trained.took, "stopped": trained.stopped, "note": trained.note,
        "curve": [vars(point) for point in trained.curve],
    }  # fmt: skip
    if any(step.technique == "learn_bits" for step in recipe.steps):
        report["explicit"] = _explicit(model, data, recipe).to_data()
    said = " ".join(part for part in (trained.stopped, trained.note) if part)
    print(json.dumps(report, indent=1) if options.json else f"{_sentence(report)} {said}".strip())
    return 0


def _make_room(out: str) -> None:
    """Make the folder of the file ``out``, before minutes of training rather than after.

    Raises ``WorkbenchError`` where there can be none.
    """
    from pathlib import Path

    folder = Path(out).absolute().parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise WorkbenchError(
            f"There can be no file '{out}', since {folder} is no folder and can't be made one ({error.strerror}): "
            "choose another --out."
        ) from error
    if Path(out).is_dir():
        raise WorkbenchError(f"'{out}' is a folder: let --out name a file in it.")


def _explicit(model: Any, data: Any, recipe: Any) -> Any:
    from workbench.compression import compress
    from workbench.train.explicit import explicit_bits

    return explicit_bits(recipe, compress(model, recipe, data))


def _transfer(options: argparse.Namespace) -> int:
    from workbench.models.load import load_model
    from workbench.train.transfer import transfer

    _only_makes(options, "--transfer")
    origin = load_model(options.model, architecture=options.architecture)
    data = load_data(options, origin)
    return _create(options, transfer(origin, data, _settings(options.set), options.threads), {})


def _design(options: argparse.Namespace) -> int:
    from workbench.models.designs import Design
    from workbench.models.load import load_model
    from workbench.train.teaching.designing import Distillation, designed, figures

    _only_makes(options, "--design")
    base, _, rest = options.design.partition(",")
    scale = _settings([part for part in rest.split(",") if part])
    if set(scale) - {"width", "depth"} or not all(isinstance(value, int | float) for value in scale.values()):
        raise WorkbenchError(f"'{options.design}' is no design: write it as resnet20,width=0.5,depth=0.67.")
    teacher = load_model(options.model, architecture=options.architecture)
    data = load_data(options, teacher)
    student = designed(Design(base, **scale), data)
    needs = {"student": figures(student, data).to_json(), "teacher": figures(teacher, data).to_json()}
    settings = _settings(options.set)
    if settings.get("epochs") == 0:
        print(json.dumps(needs, indent=1) if options.json else _needs(needs))
        return 0
    return _create(options, Distillation(student, teacher, data, settings, options.threads), needs)


def _only_makes(options: argparse.Namespace, option: str) -> None:
    """Raise ``WorkbenchError`` for options that say how a model is compressed, where one is only made."""
    for name in ("recipe", "method", "climb"):
        if getattr(options, name) is not None:
            raise WorkbenchError(f"{option} comes before any compression: leave out --{name}.")
    if options.out and not options.out.endswith(".safetensors"):
        raise WorkbenchError(f"A new model is written as .safetensors, and '{options.out}' is called otherwise.")


def _create(options: argparse.Namespace, creation: Creation, needs: dict[str, Any]) -> int:
    """Wait for a new model, write it where asked, measure it, and print what it came to."""
    from pathlib import Path

    from workbench.models.designs import save_model
    from workbench.session import Session

    data = creation.data
    follow(creation.job)
    model, trained = creation.result(), creation.job.result()
    if options.out:
        save_model(model, Path(options.out))
    with Session(model, data, split=options.split) as session:
        accuracy = session.measure().accuracy
    assert accuracy is not None
    report = {
        "model": options.model, "dataset": data.name, "classes": list(data.classes), "accuracy": accuracy.to_json(),
        "validation": {"before": trained.before.to_json(), "after": trained.after.to_json()},
        "seconds": trained.seconds, "stopped": trained.stopped, "note": trained.note,
        "curve": [vars(point) for point in trained.curve], "file": options.out, **needs,
    }  # fmt: skip
    if options.json:
        print(json.dumps(report, indent=1))
        return 0
    print(
        f"{accuracy.value:.2%} of {accuracy.n:,} {accuracy.split} images of {data.name} after {trained.seconds:.0f} s "
        f"of training{f'; written to {options.out}' if options.out else ''}. {_needs(needs)}".strip()
    )
    return 0


def _needs(needs: dict[str, Any]) -> str:
    """Say what a student needs against its teacher."""
    if not needs:
        return ""
    student, teacher = needs["student"], needs["teacher"]
    ours, theirs = (side["latency"] and side["latency"]["ms"] for side in (student, teacher))
    took = f", {ours:.2f} ms instead of {theirs:.2f} ms" if ours and theirs else ""
    return f"The student has {student['parameters']:,} parameters, the teacher {teacher['parameters']:,}{took}."


def _climb(options: argparse.Namespace, model: Any, data: Any, recipe: Any) -> int:
    from workbench.train.jobs.ladder import climb

    job = climb(model, data, recipe, options.climb, threads=options.threads)
    follow(job)
    climbed = job.result()
    report = {
        **_measured(options, model, data, recipe, climbed.recipe),
        "validation": {"dense": climbed.dense.to_json(), "before": climbed.before.to_json(),
                       "after": climbed.after.to_json()},
        "climb": options.climb, "reached": climbed.reached, "lost": climbed.lost,
        "ladder": [tried.to_json() for tried in climbed.tried], "seconds": job.progress.seconds,
    }  # fmt: skip
    if options.json:
        print(json.dumps(report, indent=1))
        return 0
    for tried in climbed.tried:
        print(
            f"{tried.rung:12} {tried.points:+7.2f} points in {tried.seconds:6.1f} s, {tried.per_second:.3f} a second"
            + (f" ({tried.note})" if tried.note else "")
        )
    reached = "within" if climbed.reached else "not within"
    print(f"{climbed.lost:.2f} points lost on the validation split, {reached} {options.climb:g}. {_sentence(report)}")
    return 0


def _measured(options: argparse.Namespace, model: Any, data: Any, before: Any, recipe: Any) -> dict[str, Any]:
    """Measure both recipes on the split, save the second one's model where asked, and return the figures."""
    from workbench.session import Session

    with Session(model, data, split=options.split) as session:
        untrained, snapshot = session.measure(before), session.measure(recipe)
        if options.out:
            session.compress(recipe).save(options.out)
    assert snapshot.score is not None
    assert untrained.score is not None
    assert snapshot.size is not None
    return {
        "model": model.name, "dataset": data.name, "recipe": recipe.to_data(), "recipe_hash": recipe.hash,
        "before": untrained.score.to_json(), "after": snapshot.score.to_json(),
        "size": snapshot.size.to_json(), "file": options.out,
    }  # fmt: skip


def _with_method(recipe: Any, method: str, given: list[str]) -> Any:
    """Return the recipe with a step of ``method`` at its end."""
    from workbench.recipe import Recipe
    from workbench.techniques import TECHNIQUES, Cost

    trained = [name for name, entry in TECHNIQUES.items() if entry.cost(entry.settings()) is Cost.TRAINED]
    if method not in trained:
        raise WorkbenchError(f"There is no method '{method}'; there is {', '.join(trained)}.")
    return Recipe.parse([*recipe.to_data(), {method: _settings(given)}])


def _settings(given: list[str]) -> dict[str, Any]:
    import yaml

    settings = {}
    for item in given:
        name, sign, value = item.partition("=")
        if not sign:
            raise WorkbenchError(f"'{item}' is no setting: write it as epochs=3.")
        try:
            settings[name] = yaml.safe_load(value)
        except (yaml.YAMLError, ValueError) as error:  # a ValueError where it looks like a date and is none
            raise WorkbenchError(f"The value of '{item}' cannot be read: write it as epochs=3.") from error
    return settings


def _untrained(recipe: Any) -> Any:
    from workbench.recipe import Recipe
    from workbench.techniques import Cost

    return Recipe(tuple(step for step in recipe.steps if step.cost is not Cost.TRAINED))


def _sentence(report: dict[str, Any]) -> str:
    before, after = report["before"], report["after"]
    told = f" With the bits spelled out: {json.dumps(report['explicit'])}" if "explicit" in report else ""
    seconds = report["seconds"] or report.get("took", 0.0)  # what was trained once is found again
    trained = f"{seconds:.{int(seconds < 10)}f} s of training{'' if report['seconds'] else ' at an earlier time'}"
    return (
        f"{before['value']:.2%} before, {after['value']:.2%} after {trained} "
        f"({after['split']}, {after['n']:,} images); {report['size']['bytes']:,} bytes.{told}"
    )
