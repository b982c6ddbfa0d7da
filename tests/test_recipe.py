"""A recipe is plain data: it round-trips, hashes by content, and says exactly what is wrong with it."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import WorkbenchError
from workbench.recipe import Recipe
from workbench.techniques import TECHNIQUES, Cost
from workbench.techniques.base import CALIBRATION

LAYERS = ("conv1", "stage1.0.conv1", "stage1.0.conv2", "fc")

prune_settings = st.fixed_dictionaries(
    {},
    optional={
        "ratio": st.floats(0, 0.99),
        "scope": st.sampled_from(["global", "layer"]),
        "granularity": st.sampled_from(["weight", "filter"]),
        "layers": st.lists(st.sampled_from(["*", "fc", "stage1.*"]), min_size=1),
        "overrides": st.dictionaries(
            st.sampled_from(["fc", "conv*"]), st.fixed_dictionaries({"ratio": st.floats(0, 0.9)})
        ),
    },
)
quantize_settings = st.fixed_dictionaries(
    {},
    optional={
        "bits": st.integers(1, 8),
        "scheme": st.sampled_from(["affine", "symmetric"]),
        "per": st.sampled_from(["channel", "tensor"]),
        "activations": st.fixed_dictionaries({"bits": st.integers(4, 8)}),
    },
)
steps = st.one_of(
    prune_settings.map(lambda settings: {"prune": settings}),
    quantize_settings.map(lambda settings: {"quantize": settings}),
    st.just({"recalibrate": {}}),
)


@given(st.lists(steps, max_size=4))
def test_yaml_and_json_round_trip(data: list[dict[str, object]]) -> None:
    recipe = Recipe.parse(data)
    for text in (recipe.to_yaml(), recipe.to_json()):
        again = Recipe.parse(text)
        assert again == recipe
        assert again.hash == recipe.hash
        assert hash(again) == hash(recipe)


def test_hash_is_of_the_resolved_recipe() -> None:
    plain, spelled = Recipe.parse("- prune"), Recipe.parse("- prune: {ratio: 0.5, scope: global}")
    assert plain.hash == spelled.hash
    assert plain.hash != Recipe.parse("- prune: {ratio: 0.6}").hash
    assert Recipe().hash != plain.hash


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("[]", "4f53cda18c2baa0c"),
        ("- prune: {ratio: 0.5}", "9fcffecc51423a8b"),
        ("- prune: {granularity: filter, ratio: 0.5, scope: layer}\n- quantize: {bits: 8}", "175c6e04be11adea"),
        ("- quantize: {bits: 4, activations: {}}\n- recalibrate", "20e95a718adf0222"),
    ],
)
def test_measured_recipes_keep_the_hash_they_were_kept_under(text: str, known: str) -> None:
    assert Recipe.parse(text).hash == known


def test_only_calibrated_steps_are_measured_anew_when_calibration_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = ("- prune: {ratio: 0.6}", "- prune: {ratio: 0.6}\n- recalibrate", "- prune: {criterion: wanda}")
    before = [Recipe.parse(text).hash for text in texts]
    monkeypatch.setattr("workbench.recipe.CALIBRATION", CALIBRATION + 1)
    after = [Recipe.parse(text).hash for text in texts]
    assert [one == other for one, other in zip(before, after, strict=True)] == [True, False, False]


def test_hash_is_the_same_in_another_process() -> None:
    text = "- prune: {ratio: 0.25, overrides: {fc: {ratio: 0.1}}}"
    code = f"from workbench.recipe import Recipe; print(Recipe.parse({text!r}).hash)"
    other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert other.stdout.strip() == Recipe.parse(text).hash


def test_last_matching_override_wins_field_by_field() -> None:
    step = Recipe.parse(
        "- quantize: {bits: 4, overrides: {'stage1.*': {bits: 6, per: tensor}, '*.conv2': {bits: 8}}}"
    ).steps[0]
    settings = step.resolve(LAYERS)
    assert [settings[name].model_dump()["bits"] for name in LAYERS] == [4, 6, 8, 4]
    assert settings["stage1.0.conv2"].model_dump()["per"] == "tensor"


def test_layers_select_by_glob_pattern() -> None:
    step = Recipe.parse("- prune: {layers: ['stage1.*']}").steps[0]
    assert list(step.resolve(LAYERS)) == ["stage1.0.conv1", "stage1.0.conv2"]


def test_a_pattern_that_matches_nothing_is_named() -> None:
    for text in ("- prune: {layers: [head]}", "- prune: {overrides: {head: {ratio: 0.1}}}"):
        with pytest.raises(WorkbenchError, match="'head' matches no layer; the layers are conv1"):
            Recipe.parse(text).steps[0].resolve(LAYERS)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("- prun: {}", ["Step 1", "'prun'", "smooth, prune, split, factorize, fold_batchnorm, quantize"]),
        ("- prune: {ratio: 1.2}", ["Step 1 (prune)", "ratio is 1.2", "less than 1"]),
        ("- prune: {ratio: -0.1}", ["ratio is -0.1", "greater than or equal to 0"]),
        ("- prune: {rato: 0.5}", ["no setting 'rato'", "ratio"]),
        ("- prune: {ratio: many}", ["ratio is 'many'", "number"]),
        ("- prune: {granularity: blocks}", ["granularity is 'blocks'", "'weight', 'filter'"]),
        ("- quantize: {bits: 12}", ["bits is 12", "1 to 8"]),
        ("- quantize: {bits: 0}", ["bits is 0"]),
        ("- quantize: {bits: 4, format: fp16}", ["fp16 has 16 bits, not 4"]),
        ("- quantize: {activations: {bits: 3}}", ["activations.bits is 3", "4"]),
        ("- prune: {}\n- quantize: {bits: 99}", ["Step 2 (quantize)"]),
        ("- prune: {overrides: {fc: {ratio: 3}}}", ["override of 'fc'", "ratio is 3"]),
        ("- prune: {overrides: [fc]}", ["overrides must map"]),
        ("- quantize: {activations: 8}", ["activations is 8", "settings of its own like {bits: 8}"]),
        ("- quantize: {activations: {mode: dynamic, observer: mse}}", ["(quantize), activations: dynamic ranges"]),
        ("- prune: {layers: 3}", ["layers must be a list"]),
        ("prune", ["A recipe is a list of steps"]),
        ("small/recipe.yaml", ["'small/recipe.yaml' is a file's name", "Path('small/recipe.yaml').read_text()"]),
        ("- {prune: {}, quantize: {}}", ["one technique"]),
        ("- prune: {ratio: [", ["not valid YAML at line 1"]),
        ("- prune: {ratio: 0.5, ratio: 0.9}", ["line 1, column 23", "'ratio' is there twice"]),
        ("- prune: {ratio: 0.5}\n  prune: {layers: [fc]}", ["line 2", "'prune' is there twice; begin each step with"]),
        ("- prune: {overrides: {fc: {ratio: 0.1}, fc: {ratio: 0.2}}}", ["'fc' is there twice"]),
        ("- prune: {overrides: {1.10: {ratio: 0.1}}}", ["the value 1.1", "quotes"]),
        ("[" * 3000 + "]" * 3000, ["nested too deep"]),
        ("- quantize: {bits: true}", ["bits is True", "a number"]),
        ("- quantize: {activations: {bits: on}}", ["activations.bits is True", "a number"]),
        ("- prune: {ratio: off}", ["ratio is False", "a number"]),
        ("- prune: 0.5", ["must be a mapping"]),
    ],
)
def test_bad_recipes_say_step_field_given_and_allowed(text: str, words: list[str]) -> None:
    with pytest.raises(WorkbenchError) as caught:
        Recipe.parse(text)
    message = str(caught.value)
    assert all(word in message for word in words), message
    assert "\n" not in message


def test_yaml_cannot_construct_objects() -> None:
    with pytest.raises(WorkbenchError, match="not valid YAML"):
        Recipe.parse("- prune: {ratio: !!python/object/apply:os.getcwd []}")


@pytest.mark.parametrize("setting", ["epochs: 9", "learning_rate: 0.5", "seed: 1", "images: 10"])
def test_layers_have_no_schedule_of_their_own(setting: str) -> None:
    name = setting.partition(":")[0]
    with pytest.raises(WorkbenchError, match=f"override of 'fc' sets {name}, but all layers are trained together"):
        Recipe.parse(f"- prune_gradually: {{overrides: {{fc: {{ratio: 0.2, {setting}}}}}}}")
    for text in ("learn_gates: {strength: 2}", "train_sparse: {ratio: 0.2}", "finetune: {learn_steps: false}"):
        technique, _, own = text.partition(": ")
        with pytest.raises(WorkbenchError, match="but all layers are trained together"):
            Recipe.parse(f"- {technique}: {{overrides: {{fc: {own}}}}}")
    (step,) = Recipe.parse("- prune_gradually: {ratio: 0.5, overrides: {fc: {ratio: 0.2}}}").steps
    assert step.settings_of("fc").ratio == 0.2  # type: ignore[attr-defined]


def test_what_looks_like_a_date_or_a_number_and_is_none_is_told() -> None:
    for value in ("2026-13-45", "0b_"):
        with pytest.raises(WorkbenchError, match="not valid YAML: a value cannot be read"):
            Recipe.parse(f"- prune: {{ratio: {value}}}")


def test_cost_depends_on_the_settings() -> None:
    assert Recipe.parse("- quantize: {bits: 4}").cost == Cost.LIVE
    assert Recipe.parse("- quantize: {bits: 4, activations: {}}").cost == Cost.CALIBRATED
    assert Recipe.parse("- quantize: {overrides: {fc: {activations: {}}}}").cost == Cost.CALIBRATED
    assert Recipe().cost == Cost.LIVE


@pytest.mark.parametrize("name", sorted(TECHNIQUES))
def test_every_setting_has_help_and_every_example_parses(name: str) -> None:
    technique = TECHNIQUES[name]
    assert all(field.description for field in technique.settings.model_fields.values())
    # what is trained needs a job first, and examples work at once
    assert bool(technique.examples) == (technique.cost(technique.settings()) is not Cost.TRAINED)
    for example in technique.examples:
        assert Recipe.parse(example).steps


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("- factorize: {size: 0.5, overrides: {fc: {rank: 4}}}", {"rank": 4}),
        ("- share: {bits: 4, overrides: {fc: {entries: 24}}}", {"entries": 24}),
        ("- prune: {threshold: 0.1, overrides: {fc: {macs: 0.5}}}", {"macs": 0.5}),
    ],
)
def test_an_override_may_say_how_hard_in_other_words(text: str, expected: dict[str, float]) -> None:
    recipe = Recipe.parse(text)
    assert recipe.steps[0].settings_of("fc").model_dump(exclude_unset=True) == expected
    assert Recipe.parse(recipe.to_yaml()) == recipe
