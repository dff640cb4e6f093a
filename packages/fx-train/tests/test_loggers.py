"""The contract of loggers, and what is in their files after crashes, resumes and odd names."""

import csv
import io
import json
import math
import re
from pathlib import Path

import pytest
from fx_core.testing.loggers import LoggerSuite
from fx_train import Describe, Evaluate, Log, ProgressBar, Run
from fx_train.errors import MetricError, RunFileError
from fx_train.loggers import ConsoleLogger, CsvLogger, JsonLinesLogger, TensorBoardLogger
from fx_train.report import read_run
from rich.console import Console


def written(logger, *entries):
    for step, metrics in entries:
        logger.log(step, metrics)
    logger.close()


def test_numbers_that_are_not_finite_are_json_and_come_back(tmp_path):
    values = {"a": math.nan, "b": math.inf, "c": -math.inf, "d": 1e-320}

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    written(JsonLinesLogger(tmp_path), (1, values))
    line = json.loads((tmp_path / "metrics.jsonl").read_text(), parse_constant=refuse)
    assert [line[name] for name in "abc"] == ["NaN", "Infinity", "-Infinity"]
    assert {name: each[1] for name, each in read_run(tmp_path).metrics.items()} == pytest.approx(values, nan_ok=True)


@pytest.mark.parametrize("name", ["step", "time"])
@pytest.mark.parametrize("make", [JsonLinesLogger, CsvLogger])
def test_names_of_what_entries_hold_anyway_are_refused(tmp_path, make, name):
    logger = make(tmp_path)
    with pytest.raises(MetricError, match=f"No metric can be called '{name}' here.\n.*besides 'step' and 'time'"):
        logger.log(1, {name: 2.0})
    logger.close()
    with (
        pytest.raises(MetricError),
        Run(tmp_path, total_steps=1, callbacks=[Log("jsonl" if make is JsonLinesLogger else "csv", every=1)]) as run,
    ):
        run.record(None, {name: 2.0})


@pytest.mark.parametrize(("make", "file"), [(JsonLinesLogger, "metrics.jsonl"), (CsvLogger, "metrics.csv")])
def test_half_a_line_at_the_end_makes_way_for_the_next(tmp_path, make, file):
    written(make(tmp_path), (1, {"loss": 0.5}), (2, {"loss": 0.25}))
    path = tmp_path / file
    path.write_bytes(path.read_bytes()[:-4])
    written(make(tmp_path), (2, {"loss": 0.125}), (3, {"loss": 1.0}))
    assert read_run(tmp_path).metrics == {"loss": {1: 0.5, 2: 0.125, 3: 1.0}}


def test_a_whole_line_without_its_end_is_kept(tmp_path):
    written(JsonLinesLogger(tmp_path), (1, {"loss": 0.5}))
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(path.read_bytes()[:-1])
    written(JsonLinesLogger(tmp_path), (2, {"loss": 0.25}))
    assert read_run(tmp_path).metrics == {"loss": {1: 0.5, 2: 0.25}}


@pytest.mark.parametrize(("make", "name"), [(JsonLinesLogger, "metrics.jsonl"), (CsvLogger, "metrics.csv")])
def test_entries_that_a_resumed_run_computes_anew_make_way(tmp_path, make, name):
    written(make(tmp_path), *((step, {"loss": float(step)}) for step in range(1, 8)))
    # Resumed after step 4, it logs every other step, and a metric more; two loggers share the file.
    rare, resumed = make(tmp_path), make(tmp_path)
    resumed.log(6, {"loss": 60.0})
    rare.log(6, {"loss": 61.0})
    resumed.log(8, {"loss": 80.0, "new": 1.0})
    resumed.close()
    rare.close()
    first = {step: float(step) for step in range(1, 6)}
    assert read_run(tmp_path).metrics == {"loss": first | {6: 61.0, 8: 80.0}, "new": {8: 1.0}}
    steps = re.findall(r'^(?:\{"step": )?(\d+)', (tmp_path / name).read_text(), re.MULTILINE)
    assert steps == ["1", "2", "3", "4", "5", "6", "6", "8"]
    # Nothing is lost, and the next run adds to it.
    written(make(tmp_path), (8, {"loss": 800.0}))
    assert read_run(tmp_path).metrics == {"loss": first | {6: 61.0, 8: 800.0}}
    aside = (tmp_path / name.replace(".", ".replaced.")).read_text()
    assert re.findall(r'^(?:\{"step": )?(\d+)', aside, re.MULTILINE) == ["6", "7", "8"]
    assert not list(tmp_path.glob("*.tmp"))


def test_lines_of_others_stay_where_they_are(tmp_path):
    foreign = '{"step": 9, "note": "by hand"}\n{"step": 9, "time": "noon"}\n'
    (tmp_path / "metrics.jsonl").write_text(foreign)
    written(JsonLinesLogger(tmp_path), (1, {}))
    assert (tmp_path / "metrics.jsonl").read_text().startswith(foreign)
    (tmp_path / "metrics.csv").write_text("step,time,loss\nnine,noon,1\n9\n")
    written(CsvLogger(tmp_path), (1, {"loss": 0.5}))
    assert (tmp_path / "metrics.csv").read_text().startswith("step,time,loss\nnine,noon,1\n9\n")


def test_another_table_is_left_alone(tmp_path):
    (tmp_path / "metrics.csv").write_text("city,people\nBern,140000")
    with pytest.raises(RunFileError, match=r"expected: the columns step, time, \.\.\.\n  got: city, people"):
        CsvLogger(tmp_path)
    assert (tmp_path / "metrics.csv").read_text() == "city,people\nBern,140000"


def test_a_table_with_odd_names_grows_and_resumes(tmp_path):
    odd = 'a, "quoted"\nname'
    written(CsvLogger(tmp_path), (1, {"loss": 1.0}), (2, {odd: 2.0, "loss": 0.5}))
    written(CsvLogger(tmp_path), (3, {"new": 3.0, odd: 4.0}))
    with (tmp_path / "metrics.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(row["step"], row["loss"], row[odd], row["new"]) for row in rows] == [
        ("1", "1.0", "", ""), ("2", "0.5", "2.0", ""), ("3", "", "4.0", "3.0"),
    ]  # fmt: skip
    assert not list(tmp_path.glob("*.tmp"))


def test_an_empty_table_gets_its_columns(tmp_path):
    (tmp_path / "metrics.csv").touch()
    written(CsvLogger(tmp_path), (1, {"loss": 1.0}))
    assert read_run(tmp_path).metrics == {"loss": {1: 1.0}}


def test_the_console_shows_values_that_are_not_finite(tmp_path, capsys):
    written(ConsoleLogger(), (1, {"loss": math.nan, "norm": 12345678.0}))
    assert capsys.readouterr().out.endswith("step 1  loss nan  norm 1.2346e+07\n")


class TestJsonLines(LoggerSuite):
    def make(self, directory):
        return JsonLinesLogger(directory)

    def read(self, directory):
        lines = map(json.loads, (directory / "metrics.jsonl").read_text().splitlines())
        return {line.pop("step"): {k: float(v) for k, v in line.items() if k != "time"} for line in lines}


class TestCsv(LoggerSuite):
    def make(self, directory):
        return CsvLogger(directory)

    def read(self, directory):
        with (directory / "metrics.csv").open() as file:
            rows = list(csv.DictReader(file))
        return {int(row.pop("step")): {k: float(v) for k, v in row.items() if v and k != "time"} for row in rows}

    def test_a_second_logger_goes_on(self, tmp_path):
        for step, metrics in [(1, {"a": 1.0}), (2, {"b": 2.0})]:
            logger = self.make(tmp_path)
            logger.log(step, metrics)
            logger.close()
        assert self.read(tmp_path) == {1: {"a": 1.0}, 2: {"b": 2.0}}


class TestConsole(LoggerSuite):
    def make(self, directory):
        return ConsoleLogger(directory)

    def test_lines(self, tmp_path):
        file = io.StringIO()
        ConsoleLogger(tmp_path, file).log(7, {"loss": 0.123456, "accuracy": 1.0})
        assert not list(tmp_path.iterdir())
        assert file.getvalue() == "[0:00:00] step 7  loss 0.12346  accuracy 1\n"


class TestTensorBoard(LoggerSuite):
    def make(self, directory):
        return TensorBoardLogger(directory)


@pytest.mark.parametrize(("name", "logger"), [("metrics.jsonl", JsonLinesLogger), ("metrics.csv", CsvLogger)])
def test_a_full_disk_is_an_error_that_names_the_file(tmp_path, name, logger):
    full = logger(tmp_path)
    full._file.close()
    full._file = Path("/dev/full").open("w", buffering=1)  # noqa: SIM115
    with pytest.raises(RunFileError, match=rf"where: .*{name}(.|\n)*got: .*No space left"):
        full.log(1, {})
    with pytest.raises(RunFileError, match=r"No space left"):
        full.close()
    (tmp_path / name).unlink()
    (tmp_path / name).mkdir()
    with pytest.raises(RunFileError, match=r"got: .*Is a directory(.|\n)*goes on from its last checkpoint"):
        logger(tmp_path)


def test_a_description_that_cannot_be_written(tmp_path):
    (tmp_path / "run.json").mkdir()
    run = Run(tmp_path, total_steps=0, callbacks=[Describe()])
    with pytest.raises(RunFileError, match=r"where: .*run.json"), run:
        pass


def test_names_do_not_command_the_terminal(tmp_path, capsys):
    written(ConsoleLogger(), (1, {"a\x1b[2Jb": 1.0}))
    assert capsys.readouterr().out.endswith("step 1  a\\x1b[2Jb 1\n")
    terminal = Console(file=io.StringIO(), force_terminal=True, width=120)
    with Run(tmp_path, total_steps=1, callbacks=[ProgressBar("[/] x", console=terminal, refresh=0.0)]) as run:
        for _ in run.steps([0]):
            run.record(0, {"[red]loss[/]": 2.0, "\x1b]0;title\x07": 1.0})
    shown = terminal.file.getvalue()
    assert "[red]loss[/] 2" in shown
    assert "[/] x" in shown
    assert "\\x1b]0;title\\x07 1" in shown
    assert "\x1b]0;title" not in shown


@pytest.mark.parametrize("content", [b"step,time," + b"x" * 200_000 + b"\n", b"step,time\xff\n", b"\n"])
def test_tables_that_cannot_be_read_are_foreign(tmp_path, content):
    (tmp_path / "metrics.csv").write_bytes(content)
    with pytest.raises(RunFileError, match=r"metrics\.csv"):
        CsvLogger(tmp_path)


def test_names_that_a_file_cannot_hold(tmp_path):
    logger = CsvLogger(tmp_path)
    with pytest.raises(RunFileError, match="surrogates not allowed"):
        logger.log(1, {"\ud800": 1.0})


@pytest.mark.parametrize("first", [0, 2, 3, 5])
def test_what_evaluations_add_is_logged_wherever_the_run_begins(tmp_path, first):
    def loop(run):
        run.step = first
        for _ in run.steps(lambda step: range(step, 9)):
            run.record(None, {"loss": 1.0})

    callbacks = [Evaluate(lambda state: {"loss": 2.0}, every=3), Log("jsonl", every=2)]
    with Run(tmp_path, total_steps=9, callbacks=callbacks) as run:
        loop(run)
    entries = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    found = {entry["step"]: sorted(entry.keys() - {"step", "time"}) for entry in entries}
    both, own, added = ["eval/loss", "loss"], ["loss"], ["eval/loss"]
    expected = {2: own, 3: added, 4: own, 6: both, 8: own, 9: both}
    assert found == {step: names for step, names in expected.items() if step > first}
