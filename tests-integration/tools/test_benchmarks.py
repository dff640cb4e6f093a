"""The results of benchmarks that are committed: explained where fx is not first, and shown as they were measured."""

import json
import math
from pathlib import Path

import pytest

from benchmarks import plots, reasons, registry, report

ROOT = Path(__file__).parents[2]


def row(case, library, ours, raw=1.0):
    return {
        "case": case,
        "library": library,
        "ours": ours,
        "raw": raw,
        "unit": "s",
        "spread": None,
        "aim": None,
        "note": "",
    }


@pytest.fixture(scope="module")
def results():
    return json.loads((ROOT / "benchmarks/results.json").read_text())


def test_every_case_that_is_not_first_has_a_sentence(results):
    assert results["groups"].keys() <= registry.GROUPS.keys()
    assert report.unexplained(results) == []


def test_page_and_plots_are_those_of_the_results(results):
    assert report.page(results) in (ROOT / "benchmarks/RESULTS.md").read_text()
    for name, text in plots.drawn(results["groups"]["growth"]["rows"]).items():
        assert (ROOT / "docs" / name).read_text() == text


def test_sentences_are_of_modules_that_there_are():
    assert reasons.REASONS.keys() == registry.GROUPS.keys() - {"growth"}
    for name in registry.GROUPS:
        assert (ROOT / "benchmarks" / f"{name}.py").exists()


def test_slower_than_what_it_is_over_or_than_a_peer_of_its_kind():
    rows = [
        row("a", "fx_nnx", 1.05),
        row("a", "haiku", 0.5),
        row("b", "fx_nnx", 1.05),
        row("b", "equinox", 0.9),
        row("c", "fx_linen", 1.2),
        row("c", "flax.linen", 2.0),
        row("d", "fx", 1.09),
    ]
    found = [(ours["case"], best and best["library"]) for ours, best in report.slower(rows)]
    assert found == [("b", "equinox"), ("c", None)]
    assert report.unexplained({"groups": {"unheard": {"rows": rows[2:4]}}}) == ["unheard: b, fx_nnx"]
    assert report.unexplained({"groups": {"linen_step:8": {"rows": [row("c", "fx_linen", 1.2)]}}}) == []


def test_exponent_of_powers_leaves_out_zero():
    points = [(0.0, 5.0), *((10.0**n, 3.0 * 10 ** (2 * n)) for n in range(3))]
    assert math.isclose(plots.exponent(points), 2.0)
    (text,) = plots.drawn([row(f"look-up | plugins | {n}", "fx_core", 1 + n) for n in (0, 1, 10)]).values()
    assert "entry points" in text


def test_what_was_measured_before_stays_where_a_peer_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "HERE", tmp_path)
    monkeypatch.setattr(report, "PAGE", tmp_path / "page.md")
    (tmp_path / "page.md").write_text(f"before {report.BEGIN} {report.END} after")
    machine = {"cpu": "Z80", "cores": 1, "system": "CP/M", "python": "3.11"}
    about = {"date": "1 May 2026", "load": 0.1, "quick": False, "trouble": ""}
    first = {"decode": {**about, "rows": [row("one token", "fx_nnx", 1.0)]}}
    second = {"export": {**about, "rows": [row("a network", "fx", 1.0)]}}
    report.write({**machine, "versions": {"jax": "1", "equinox": "2"}, "groups": first})
    report.write({**machine, "versions": {"jax": "1"}, "groups": second})
    found = json.loads((tmp_path / "results.json").read_text())
    assert found["groups"] == {**first, **second}
    assert found["versions"] == {"jax": "1", "equinox": "2"}
    page = (tmp_path / "page.md").read_text()
    assert "one token" in page
    assert "a network" in page
    report.write({**machine, "versions": {"jax": "3"}, "groups": second})
    assert json.loads((tmp_path / "results.json").read_text())["groups"] == second
