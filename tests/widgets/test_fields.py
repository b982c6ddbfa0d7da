from __future__ import annotations

from widgets.controls.fields import fields_of
from workbench.techniques import TECHNIQUES


def test_every_setting_of_every_technique_has_a_field_with_its_help() -> None:
    for technique in TECHNIQUES.values():
        names = {field["name"].partition(".")[0] for field in fields_of(technique)}
        assert names == set(technique.settings.model_fields)
        assert all(field["help"].endswith((".", ")")) for field in fields_of(technique))


def test_kinds_and_ranges_come_from_the_settings_type() -> None:
    fields = {field["name"]: field for field in fields_of(TECHNIQUES["prune"])}
    assert fields["scope"]["options"] == ["global", "layer", "row"]
    assert (fields["multiple"]["min"], fields["multiple"]["max"], fields["multiple"]["whole"]) == (1, 64, True)
    assert fields["multiple"]["excluded"] == []
    minutes = next(field for field in fields_of(TECHNIQUES["finetune"]) if field["name"] == "minutes")
    assert (minutes["min"], minutes["excluded"]) == (0, ["min"])
    assert fields["threshold"]["optional"]
    assert fields["threshold"]["default"] is None
    nested = {field["name"] for field in fields_of(TECHNIQUES["quantize"], ["activations.bits"])}
    assert {"activations.observer", "activations.percentile"} <= nested
    assert "activations.bits" not in nested


def test_an_optional_choice_offers_nothing_first() -> None:
    fields = {field["name"]: field for field in fields_of(TECHNIQUES["quantize"])}
    assert fields["format"]["options"][0] is None


def test_what_makes_a_training_what_it_is_comes_first() -> None:
    fields = fields_of(TECHNIQUES["distill"])
    shown = [field["name"] for field in fields if field["first"]]
    assert shown == ["teacher", "loss", "epochs", "learning_rate", "images", "learn_from"]
    assert [field["name"] for field in fields][: len(shown)] == shown
    assert all(field["first"] for field in fields_of(TECHNIQUES["prune"]))


def test_settings_say_when_they_matter() -> None:
    fields = {field["name"]: field for field in fields_of(TECHNIQUES["quantize"])}
    assert fields["bits"]["when"] == []
    assert fields["group_size"]["when"] == [{"per": ["group"]}]
    assert fields["activations.observer"]["when"] == [{"activations.mode": ["static"]}]
    assert [list(condition) for condition in fields["range"]["when"]] == [["format", "bits"], ["format"]]
    for technique in TECHNIQUES.values():
        known = {field["name"] for field in fields_of(technique)} | {"activations"}
        named = {name for field in fields_of(technique) for condition in field["when"] for name in condition}
        assert named <= known
