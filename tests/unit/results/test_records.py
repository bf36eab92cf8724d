"""The file of a table's runs, and the page that is made of it."""

import json
import math

import pytest

from mtl.errors import RunDirectoryError
from mtl.results.page import FINDINGS, LEAD, Origin, PageEntry, front_page, kept, table_page
from mtl.results.records import read_records, write_records
from tests.unit.results.test_paper_tables import DEFINITION, PLAN, make, table_of, text_of
from tests.unit.results.test_runs import write_run


@pytest.fixture
def runs(tmp_path):
    values = {"uniform": 80.123456789, "mgda_ub": 85.0, "single_task": 90.0}
    made = [make(tmp_path / "runs", job, values[job.row] + job.seed / 7, 60.0) for job in PLAN]
    lost = make(tmp_path / "runs", PLAN[-1], 0.0, 0.0, "lost", status="diverged", metrics={})
    return [*made[:-1], lost]


def written(runs, tmp_path, curves=()):
    write_records(tmp_path / "t.jsonl", runs, tmp_path / "runs", curves, ["table=toy/table", "seed=0,1"])
    return read_records(tmp_path / "t.jsonl")


def test_a_table_of_the_file_is_the_table_of_the_directories(runs, tmp_path):
    again, arguments = written(runs, tmp_path, [run.path for run in runs])
    assert arguments == ("table=toy/table", "seed=0,1")
    directories = text_of(table_of(runs), runs=runs).replace(f"{tmp_path}/runs/", "")
    assert text_of(table_of(again), runs=again) == directories
    assert "Equal optimizer steps" in directories
    assert "mgda_ub: 1 runs of candidates that were not chosen did not complete" in directories


def test_numbers_keep_every_digit_and_curves_six(runs, tmp_path):
    run = write_run(tmp_path / "runs", "x", values={"left": 1 / 3})
    (again,), _ = written([run], tmp_path, [run.path])
    assert again.value("test", "left", "accuracy") == 1 / 3
    assert [event["metrics"]["val"]["left"]["accuracy"] for event in again.events("evaluation")] == [0.333333] * 2
    assert list(again.events("step")) == []
    assert again.path.as_posix() == "x"


def test_what_runs_share_is_written_once_and_no_place_of_the_machine(runs, tmp_path):
    written(runs, tmp_path)
    first, *lines = (tmp_path / "t.jsonl").read_text().splitlines()
    assert json.loads(first)["shared"]["experiment"] == "demo"
    assert not any("experiment" in json.loads(line) for line in lines)
    assert "status" not in json.loads(first)["shared"]  # one diverged
    assert str(tmp_path) not in (tmp_path / "t.jsonl").read_text()


def test_an_undefined_metric_stays_undefined(tmp_path):
    run = write_run(tmp_path / "runs", "x", metrics={"test": {"left": {"accuracy": None}}})
    (again,), _ = written([run], tmp_path)
    assert math.isnan(again.value("test", "left", "accuracy"))


@pytest.mark.parametrize("text", ["", "[]", '{"shared": {}}', '{"shared": {}, "arguments": []}\n{"status": "done"}'])
def test_another_file_is_refused(tmp_path, text):
    (tmp_path / "t.jsonl").write_text(text)
    with pytest.raises(RunDirectoryError, match=r"t\.jsonl"):
        read_records(tmp_path / "t.jsonl")


ORIGIN = Origin(("python scripts/train.py -m sweep=toy",), "python scripts/table.py a", "again", "runs/toy.jsonl")


def page_of(runs, before=""):
    return table_page(DEFINITION, [], ["a note"], {"toy-figure3.png": "A figure"}, runs, ORIGIN, before)


def test_what_people_wrote_on_a_page_survives_and_nothing_else_does(runs):
    block = f"<!-- {LEAD}: begin -->\nWhat came out: nothing.\n\nReally.\n<!-- {LEAD}: end -->"
    first = page_of(runs)
    edited = first.replace(kept(first, LEAD), block).replace("a note", "a changed note")
    again = page_of(runs, edited)
    assert again == first.replace(kept(first, LEAD), block)
    assert page_of(runs, again) == again


def test_a_page_says_how_it_was_made(runs):
    text = page_of(runs)
    for words in ("c" * 40, "python scripts/train.py -m sweep=toy", "(runs/toy.jsonl)", "![A figure](toy-figure3.png)"):
        assert words in text
    assert f"{len(runs)} runs, those of candidates that were not chosen included: {60 * len(runs):,} seconds" in text


def test_the_front_page_keeps_its_text_and_lists_every_page(runs):
    first = front_page([PageEntry("b.md", "B", runs), PageEntry("a.md", "A", runs[:1])], "")
    assert first.index("[A](a.md)") < first.index("[B](b.md)")
    block = f"<!-- {FINDINGS}: begin -->\n1. x\n<!-- {FINDINGS}: end -->"
    mine = first.replace(kept(first, FINDINGS), block) + "\nMore.\n"
    again = front_page([PageEntry("a.md", "A", runs[:1])], mine)
    assert "1. x" in again
    assert again.endswith("\nMore.\n")
    assert "b.md" not in again
