"""The page is well-formed, complete, safe and self-contained; how it looks is seen in docs/."""

import contextlib
import json
import math
import re
import tempfile
from html.parser import HTMLParser
from pathlib import Path

import click.testing
import pytest
from fx_core.plugins import registry
from fx_train.errors import RunFileError
from fx_train.report import read_run, write_report
from fx_train.report.curves import chart, groups, ticks
from fx_train.report.records import thinned
from hypothesis import given, settings
from hypothesis import strategies as st

VOID = {"meta", "link", "line", "circle", "br", "wbr", "img", "input"}


class Elements(HTMLParser):
    """Elements with attributes and text; complains about tags that do not match."""

    def __init__(self, text):
        super().__init__()
        self.open, self.found, self.text = [], [], ""
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attributes for name, attributes in self.found if name == tag]


def make_run(directory, **about):
    rows = [{"step": step, "time": 0.0, "loss": 1000 / step} for step in range(1, 11)]
    rows += [{"step": step, "time": 0.0, "eval/loss": float("nan") if step == 6 else 2.0} for step in (2, 4, 6, 8)]
    rows += [{"step": 10, "time": 1.0, "loss": 7.0}]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (directory / "run.json").write_text(
        json.dumps(
            {
                "outcome": "done", "step": 10, "total_steps": 10, "started": 0.0, "ended": 3700.0,
                "config": {"model": {"depth": 3}, "note": "<b>bold</b> & co"},
                "environment": {"devices": ["8 × cpu"], "packages": {"jax": "1.2.3"}},
                "parameters": [{"path": "dense/kernel", "shape": [2, 3], "dtype": "float32"}],
                "confusion": {"eval/confusion": {"step": 8, "counts": [[3, 1], [0, 0]], "classes": ["<cat>", "dog"]}},
                **about,
            }
        )
    )  # fmt: skip
    return directory


def test_the_page_shows_everything_and_needs_nothing(tmp_path):
    page = write_report(make_run(tmp_path)).read_text()
    elements = Elements(page)
    for text in ("10 of 10 steps", "1 h 01 min", "model.depth", "<b>bold</b> & co", "8 × cpu", "1.2.3", "dense/kernel"):
        assert text in elements.text
    assert "6 numbers in 1 array" in elements.text
    assert len(elements.all("svg")) == 1
    assert [section["id"] for section in elements.all("section")] == [
        "curves", "confusion-0", "parameters", "config", "environment",
    ]  # fmt: skip
    assert [link["href"] for link in elements.all("link")] == ["data:,"]
    assert not elements.all("img")
    assert not any("src" in attributes for _, attributes in elements.found)
    assert not re.search(r"https?://", page)
    assert "<b>bold" not in page


def test_curves_share_a_chart_and_have_gaps(tmp_path):
    page = write_report(make_run(tmp_path), tmp_path / "page.html").read_text()
    elements = Elements(page)
    paths = [path["d"] for path in elements.all("path") if "curve" in path["class"]]
    assert len(paths) == 2
    assert paths[0].count("L") == 9
    assert paths[1].count("M") == 2
    (blob,) = re.findall(r'<script type="application/json">(.*?)</script>', page)
    data = json.loads(blob)
    assert dict(data["curves"])["train"][-1] == [10, 7.0]
    assert dict(data["curves"])["eval"][2] == [6, None]
    assert (data["x"]["low"], data["x"]["high"]) == (1, 10)
    assert [path["d"].count("M") for path in elements.all("path") if path["class"] == "gaps"] == [1]


def test_confusion_matrix_and_empty_rows(tmp_path):
    elements = Elements(write_report(make_run(tmp_path)).read_text())
    cells = [cell for cell in elements.all("td") if "style" in cell]
    assert [cell["style"] for cell in cells] == ["--share:0.750", "--share:0.250", "--share:0.000", "--share:0.000"]
    assert "<cat>" in elements.text
    assert "75.0 %" in elements.text
    assert "–" in elements.text


@pytest.mark.parametrize(
    ("outcome", "badge"),
    [("NonFiniteError: Step 3", "failed"), ("stopped: got SIGTERM", "stopped"), ("running", "running")],
)
def test_outcomes(tmp_path, outcome, badge):
    elements = Elements(write_report(make_run(tmp_path, outcome=outcome)).read_text())
    assert f"badge {badge}" in [span.get("class") for span in elements.all("span")]
    assert outcome in elements.text


def test_a_table_alone_is_enough_and_a_last_half_line_is_left_out(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,time,loss,eval/loss\n1,0,2.0,\n2,0,1.0,3.0\n")
    records = read_run(tmp_path)
    assert records.metrics == {"loss": {1: 2.0, 2: 1.0}, "eval/loss": {2: 3.0}}
    Elements(write_report(tmp_path).read_text())
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_run(tmp_path).metrics == {"loss": {1: 2.0}}


def test_half_a_number_at_the_end_of_a_table_does_not_count(tmp_path):
    (tmp_path / "metrics.csv").write_text("step,time,loss\n1,0,2.0\n2,5,1.2")
    records = read_run(tmp_path)
    assert (records.metrics, records.latest) == ({"loss": {1: 2.0}}, 0.0)


@pytest.mark.parametrize(
    ("name", "content", "text"),
    [
        ("metrics.jsonl", '{"step": 1, "loss": 2}\n3\n', r"line 2 is no entry with a step and numbers \(TypeError"),
        ("metrics.jsonl", '{"loss": 2}\n', r"line 1 is no entry .* \(KeyError: 'step'\)"),
        ("metrics.jsonl", '{"step": 1, "loss": "big"}\n', "could not convert string to float: 'big'"),
        ("metrics.csv", "a,b\n1,2\n", "line 2 is no entry"),
        ("metrics.jsonl", '{"step": 1e400, "loss": 1}\n', "inf is no step"),
        ("metrics.jsonl", '{"step": 1.5, "loss": 1}\n', r"1\.5 is no step"),
        ("metrics.jsonl", '{"step": 1, "loss": 1, "time": 1e400}\n', "inf is no time"),
        ("metrics.jsonl", '{"step": 1, "loss": 1' + "0" * 400 + "}\n", "OverflowError"),
        ("metrics.jsonl", "[" * 100_000 + "\n", "line 1: maximum recursion depth"),
        ("metrics.csv", "step,time,loss\n1,2," + "3" * 200_000 + "\n", r"line 1: field larger than field limit"),
        ("metrics.csv", "step,time\n1,2,3\n", "line 2 is no entry"),
        ("run.json", '{"a":' * 100_000, r"run\.json\n  got: maximum recursion depth"),
        ("run.json", '{"started": 1e400}', r"run\.json\n  got: OverflowError"),
        ("run.json", "[]", "list instead of an object"),
        ("run.json", '{"parameters": [{"path": "w"}]}', r"run\.json\n  got: KeyError: 'shape'"),
        ("run.json", '{"confusion": {"c": {"counts": 3}}}', r"run\.json\n  got: TypeError"),
    ],
)
def test_records_of_other_forms(tmp_path, name, content, text):
    (tmp_path / name).write_text(content)
    with pytest.raises(RunFileError, match=text):
        write_report(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_the_accuracy_of_a_confusion_matrix_is_shown_once(tmp_path):
    rows = [{"step": s, "eval/accuracy": s / 9, "eval/confusion": s / 9, "eval/other": s / 8} for s in range(1, 5)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    table = {"step": 4, "counts": [[1, 0], [0, 1]]}
    (tmp_path / "run.json").write_text(json.dumps({"confusion": {"eval/confusion": table, "eval/other": table}}))
    labels = [svg["aria-label"] for svg in Elements(write_report(tmp_path).read_text()).all("svg")]
    assert labels == ["accuracy by step", "other by step"]


def test_many_classes_are_a_picture_with_the_worst_confusions(tmp_path):
    counts = [[9 if i == j else 0 for j in range(60)] for i in range(60)]
    counts[7][11] = 5
    (tmp_path / "run.json").write_text(json.dumps({"confusion": {"c": {"step": 1, "counts": counts}}}))
    elements = Elements(write_report(tmp_path).read_text())
    (picture,) = elements.all("img")
    assert picture["src"].startswith("data:image/png;base64,iVBORw0KGgo")
    assert "35.7 %" in elements.text
    assert len(elements.all("td")) == 4


def test_a_run_that_goes_on_shows_how_far_it_is(tmp_path):
    make_run(tmp_path, outcome="running", step=0)
    about = json.loads((tmp_path / "run.json").read_text())
    del about["ended"]
    (tmp_path / "run.json").write_text(json.dumps(about))
    text = Elements(write_report(tmp_path).read_text()).text
    assert "10 of 10 steps" in text
    assert "last entry 1970-01-01 00:00 UTC" in text


def test_many_values_that_are_not_finite_are_thinned_too():
    series = {step: (1.0 if step < 100 else math.nan) for step in range(50_000)}
    assert len(thinned(series)) < 1700


def test_no_or_damaged_records(tmp_path):
    with pytest.raises(RunFileError, match=r"expected: metrics\.jsonl, metrics\.csv or run\.json"):
        read_run(tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"st\n{"step": 2, "loss": 1}\n')
    with pytest.raises(RunFileError, match="line 1"):
        read_run(tmp_path)
    (tmp_path / "metrics.jsonl").unlink()
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunFileError, match=r"run\.json"):
        read_run(tmp_path)


def test_files_that_cannot_be_read_or_written(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_bytes(b"\xeb\xff\n")
    with pytest.raises(RunFileError, match=r"it cannot be read as text .'utf-8' codec"):
        write_report(tmp_path)
    file.write_bytes(b'{"step": 1, "loss": 2}\n{"step": 2, "\xc3')
    assert read_run(tmp_path).metrics == {"loss": {1: 2.0}}
    (tmp_path / "taken").mkdir()
    for place, problem in (("taken", "it is a directory"), ("no/such.html", "No such file")):
        with pytest.raises(RunFileError, match=problem):
            write_report(tmp_path, tmp_path / place)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["metrics.jsonl", "taken"]


def test_long_curves_keep_their_extremes_and_gaps():
    series = {step: math.sin(step / 50) for step in range(100_000)}
    series[70_001], series[50_001] = 99.0, math.nan
    points = thinned(series)
    assert len(points) < 1700
    assert (70_001, 99.0) in points
    assert any(math.isnan(value) for _, value in points)
    assert points == sorted(points)


def test_charts_of_little_and_of_large_ranges():
    assert "logarithmic" not in chart("rate", {"train": {step: 1 - step / 101 + 1e-9 for step in range(102)}})
    assert 'class="dot c0"' in chart("loss", {"train": {5: 1.0}})
    assert "logarithmic" in chart("loss", {"train": {1: 1e-4, 2: 10.0}})
    assert "nan" not in chart("loss", {"train": {1: math.nan, 2: math.inf}})
    assert ticks(-1.0, 1.0) == [-1.0, -0.5, 0.0, 0.5, 1.0]
    assert groups(["a/b/loss", "a/loss"]) == {"loss": {"a/b": "a/b/loss", "a": "a/loss"}}
    assert groups(["loss", "train/loss"]) == {"loss": {"train": "loss", "train/loss": "train/loss"}}


def test_the_command(tmp_path, monkeypatch):
    opened = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    command = registry().commands["report"].load()
    runner = click.testing.CliRunner()
    done = runner.invoke(command, [str(make_run(tmp_path)), "--open"])
    assert done.output == f"Wrote {tmp_path / 'report.html'}\n"
    assert opened[0].startswith("file://")
    listed = runner.invoke(command, [str(tmp_path), "--json"])
    assert json.loads(listed.output) == {"run": str(tmp_path), "page": str(tmp_path / "report.html")}
    failed = runner.invoke(command, [str(tmp_path / "nowhere")])
    assert failed.exit_code == 1
    assert "There is no run to report on" in failed.output


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
KEYS = st.sampled_from(
    [
        "step",
        "time",
        "loss",
        "started",
        "ended",
        "outcome",
        "total_steps",
        "confusion",
        "parameters",
        "config",
        "\ud800",
    ]
)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.dictionaries(KEYS, JSON, max_size=4) | JSON, max_size=3), st.dictionaries(KEYS, JSON, max_size=5) | JSON
)
def test_whatever_is_in_the_files_there_is_a_page_or_an_error_of_its_own(lines, about):
    with tempfile.TemporaryDirectory() as directory:
        (Path(directory) / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        (Path(directory) / "run.json").write_text(json.dumps(about))
        with contextlib.suppress(RunFileError):
            assert write_report(directory).read_text(encoding="utf-8").endswith("</html>\n")


def test_names_that_are_no_text_are_shown_as_far_as_possible(tmp_path):
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "lo\\ud800ss": 2}\n')
    assert "lo&#55296;ss" in write_report(tmp_path).read_text(encoding="utf-8")


def test_labels_that_look_like_numbers_keep_their_order():
    data = json.loads(re.search(r"<script[^>]*>(.*?)</script>", chart("loss", {"b": {1: 1.0}, "7": {1: 2.0}}))[1])
    assert [name for name, _ in data["curves"]] == ["b", "7"]
