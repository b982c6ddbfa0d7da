"""What longer work has learnt is kept as it grows, and survives its process."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from workbench.history import History, Key, present_versions

KEY = Key("m", "mh", "d", "dh", "test", "onnxruntime")


def test_a_finding_is_replaced_by_what_is_known_later(tmp_path: Path) -> None:
    history = History(tmp_path / "h.sqlite")
    assert history.finding(KEY, "sensitivity", "prune") is None
    history.keep_finding(KEY, "sensitivity", "prune", b"half", done=False)
    history.keep_finding(KEY, "sensitivity", "prune", b"all\x00of it", done=True)
    history.close()
    finding = History(tmp_path / "h.sqlite").finding(KEY, "sensitivity", "prune")
    assert (finding.payload, finding.done, finding.question) == (b"all\x00of it", True, "prune")
    assert finding.versions == present_versions()
    assert finding.versions["torch"]


def test_findings_are_listed_latest_first_of_this_subject_only() -> None:
    history = History(":memory:")
    history.keep_finding(KEY, "sensitivity", "prune", b"1", done=True)
    history.keep_finding(KEY, "search", "100 kB", b"2", done=False)
    history.keep_finding(replace(KEY, model_hash="other"), "search", "100 kB", b"3", done=False)
    assert [finding.payload for finding in history.findings(KEY)] == [b"2", b"1"]
    assert [finding.question for finding in history.findings(KEY, "sensitivity")] == ["prune"]
    history.keep_finding(KEY, "sensitivity", "prune", b"4", done=True)
    assert [finding.payload for finding in history.findings(KEY)] == [b"4", b"2"]


def test_a_finding_may_be_forgotten() -> None:
    history = History(":memory:")
    history.keep_finding(KEY, "search", "100 kB", b"2", done=False)
    history.forget_finding(KEY, "search", "100 kB")
    history.forget_finding(KEY, "search", "never asked")
    assert history.findings(KEY) == []
