"""Reports in files, in the terminal and as pages."""

import json
import math

import click.testing
import fx_compress
import jax.numpy as jnp
import pytest
from fx_compress.command import compress
from fx_core.plugins import registry

MODEL = {"encoder": {"kernel": jnp.linspace(-1, 1, 64).reshape(8, 8), "bias": jnp.zeros(8)}}


@pytest.fixture
def directory(tmp_path):
    for scheme, accuracy in ((fx_compress.int8(), 0.985), (fx_compress.int4(group=4), 0.975)):
        report = fx_compress.compare(MODEL, fx_compress.quantize(MODEL, scheme), {"accuracy": (0.99, accuracy)})
        report.write(tmp_path / "reports" / f"{scheme.format}.json")
    return tmp_path / "reports"


def run(*arguments, code=0):
    done = click.testing.CliRunner().invoke(compress, ["report", *map(str, arguments)])
    assert done.exit_code == code, done.output
    return done


def test_reports_come_back_from_files(directory):
    report = fx_compress.compare(
        MODEL, fx_compress.quantize(MODEL, fx_compress.int8()), figures={"accuracy": (0.99, 0.985)}
    )
    assert fx_compress.Report.read(directory / "int8.json") == report
    assert str(report).splitlines()[-1] == "accuracy: 0.99 → 0.985"
    assert math.isinf(report.rows[0].sqnr)
    # JSON has no infinity.
    assert json.loads((directory / "int8.json").read_text())["rows"][0]["sqnr"] is None


def test_the_command_is_a_plugin(directory):
    entry = registry().commands["compress"]
    assert entry.origin.distribution == "fx-compress"
    assert entry.load() is compress


def test_one_report_is_a_table_that_fits_80_columns(directory):
    lines = run(directory / "int4.json").output.splitlines()
    assert max(map(len, lines)) <= 80
    (kernel,) = (line.split() for line in lines if line.startswith("encoder/kernel"))
    assert kernel[1:5] == ["8×8", "int4", "96", "256"]
    assert "accuracy: 0.99 → 0.975" in lines


def test_several_reports_are_summed_up(directory):
    output = run(directory).output
    *_, int4, int8 = (line.split() for line in output.splitlines() if line)
    assert int4 == ["int4", "128", "0.444", "0.99", "→", "0.975"]
    assert int8[0] == "int8"


def test_json_has_everything(directory):
    found = json.loads(run(directory, "--json").stdout)
    assert list(found) == ["int4", "int8"]
    assert found["int8"]["figures"] == {"accuracy": [0.99, 0.985]}
    assert [row["path"] for row in found["int8"]["rows"]] == ["encoder/bias", "encoder/kernel"]


def test_a_page_is_written(directory, tmp_path):
    run(directory, "--html", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.startswith("<!DOCTYPE html>")
    for text in ("Summary", "encoder/kernel", "0.99 → 0.975", "SQNR", "prefers-color-scheme"):
        assert text in page
    assert "http" not in page
    run(directory / "int8.json", "--html", tmp_path / "one.html")
    assert 'class="tile"' in (tmp_path / "one.html").read_text(encoding="utf-8")


def test_names_cannot_be_html(tmp_path):
    odd = {"<b>": MODEL["encoder"]}
    fx_compress.compare(odd, odd, {"<i>": (1, 1)}).write(tmp_path / "odd.json")
    run(tmp_path / "odd.json", "--html", tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert "<b>/" not in page
    assert "<i>" not in page.replace("<i style", "")


@pytest.mark.parametrize("content", [None, "{", "[]", '{"format": "other", "version": 1}'])
def test_files_that_are_no_reports_are_refused(tmp_path, content):
    if content is not None:
        (tmp_path / "other.json").write_text(content)
    output = run(tmp_path / "other.json", code=1).output
    assert "This is no report on compression." in output
    assert "Report.write" in output


def test_empty_directories_and_pages_without_a_place_are_refused(tmp_path):
    assert "There are no reports." in run(tmp_path, code=1).output
    assert "--html" in run(tmp_path, "--open", code=2).output
    fx_compress.Report(()).write(tmp_path / "empty.json")
    assert "cannot be written" in run(tmp_path / "empty.json", "--html", tmp_path, code=1).output
