"""Pages of tables: made of a file of runs, the same again, and those that are committed are what the files say."""

import re
import shutil
from dataclasses import replace

import pytest

from mtl.config import tables
from mtl.config.build import config_directory
from mtl.config.pages import refresh_pages
from mtl.config.sweeps import plan_table
from mtl.results.definition import load_definition
from mtl.results.page import LEAD, kept
from tests.problems import REPOSITORY
from tests.unit.results.paper_figures.synthetic import runs_of
from tests.unit.results.paper_figures.test_of_tables import TWO, accuracy

NAME = "sener2018/multimnist_short"
STEM = "sener2018_multimnist_short"
ARGUMENTS = [f"table={NAME}", "seed=0,1", "optimizer.lr=0.01"]
COMMITTED = REPOSITORY / "docs/results"


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Runs of two seeds at one rate, as the plan of the cut-down table names them."""
    root = tmp_path_factory.mktemp("runs")
    definition = load_definition(config_directory() / "table", NAME)
    plan = plan_table(definition, ["seed=0,1", "optimizer.lr=0.01"])
    runs_of(replace(plan, jobs=plan.jobs), root, TWO, accuracy, experiment=definition.experiment)
    return root


def command(capsys, *arguments):
    code = tables.table_main(list(arguments))
    captured = capsys.readouterr()
    assert code == 0, captured.err
    return captured.out


def test_a_page_is_the_table_of_its_file_of_runs(runs, tmp_path, capsys):
    out = tmp_path / "results"
    command(capsys, *ARGUMENTS, f"runs={runs}", f"out={out}", "page=true")
    page = out / f"{STEM}.md"
    first = page.read_text()
    assert sorted(path.name for path in out.iterdir()) == [
        "README.md", "runs", f"{STEM}-figure3.pdf", f"{STEM}-figure3.png", f"{STEM}.md",
    ]  # fmt: skip
    assert f"({STEM}-figure3.png)" in first
    assert str(tmp_path) not in first
    assert "not the protocol of this table" not in first  # seeds and rates are parameters of its sweeps

    command(capsys, *ARGUMENTS, f"runs={runs}", f"out={tmp_path / 'plain'}")
    plain = (tmp_path / "plain" / f"{STEM}.md").read_text()
    sections = re.compile(r"^## (?:Values|Summary|Cost|Difference|Equal).*?(?=^## |^!\[)", re.MULTILINE | re.DOTALL)
    assert sections.findall(first) == sections.findall(plain)
    assert len(sections.findall(first)) == 7

    (again,) = re.findall(r"^python scripts/table\.py (.*docs/results/runs/.*)$", first, re.MULTILINE)
    words = again.replace("docs/results", str(out)).split()
    (out / f"{STEM}-figure3.png").write_bytes(b"")
    page.write_text(first.replace(kept(first, LEAD), f"<!-- {LEAD}: begin -->\nMine.\n<!-- {LEAD}: end -->"))
    command(capsys, *words)
    assert page.read_text().replace("Mine.\n", "") == first
    assert (out / f"{STEM}-figure3.png").read_bytes().startswith(b"\x89PNG")


def test_the_printed_commands_make_exactly_the_runs_of_the_page(runs, tmp_path, capsys):
    command(capsys, *ARGUMENTS, f"runs={runs}", f"out={tmp_path}", "page=true")
    text = (tmp_path / f"{STEM}.md").read_text()
    lines = re.findall(r"^python scripts/train\.py -m sweep=(\S+) (.*)$", text, re.MULTILINE)
    assert {name for name, _ in lines} == {NAME, *(f"{NAME}/{part}" for part in ("single_task", "uniform", "static"))}
    assert all(words == "optimizer.lr=0.01 seed=0,1" for _, words in lines)


def test_all_pages_again(runs, tmp_path, capsys):
    command(capsys, *ARGUMENTS, f"runs={runs}", f"out={tmp_path}", "page=true")
    before = {path.name: path.read_text() for path in tmp_path.glob("*.md")}
    (tmp_path / f"{STEM}.md").unlink()
    command(capsys, "table=pages", f"out={tmp_path}")
    assert {path.name: path.read_text() for path in tmp_path.glob("*.md")} == before
    assert before["README.md"].count(f"({STEM}.md)") == 1


def test_a_page_without_runs_or_place_is_refused(tmp_path, capsys):
    assert tables.table_main([*ARGUMENTS, f"runs={tmp_path}", f"out={tmp_path}", "page=true"]) == 1
    assert "needs at least one run" in capsys.readouterr().err
    assert tables.table_main([*ARGUMENTS, "page=true"]) == 1
    assert "needs a place" in capsys.readouterr().err


@pytest.mark.parametrize(("given", "words"), [("choose_on=x", "should be seeds"), ("seed=1,2", "Leave `seed` away")])
def test_a_choice_on_seeds_that_are_not_there_is_refused(given, words, tmp_path, capsys):
    assert tables.table_main([f"table={NAME}", f"runs={tmp_path}", "plan=true", given]) == 1
    assert words in capsys.readouterr().err


def test_committed_pages_are_those_of_the_committed_runs(tmp_path):
    """If this fails, `python scripts/table.py table=pages` writes them anew: look at the difference and commit it."""
    out = shutil.copytree(COMMITTED, tmp_path / "results")
    refresh_pages(out)
    for page in COMMITTED.glob("*.md"):
        assert (out / page.name).read_text() == page.read_text(), page
    assert {path.stem for path in (COMMITTED / "runs").glob("*.jsonl")} <= {
        page.stem for page in COMMITTED.glob("*.md")
    }
