"""scripts/table.py from its plan over real runs to the table."""

import json
import shlex
import shutil

import pytest

from mtl.config import train_main
from mtl.config.tables import table_main

SMALL = [
    "dataset.train_size=64",
    "dataset.val_size=32",
    "dataset.test_size=32",
    "trainer.max_epochs=1",
    "trainer.max_steps=2",
]
CUT = [*SMALL, "rows=single_task,uniform,mgda", "seed=0,1", "optimizer.lr=0.001"]
TABLE = "table=community/multidigits"


def printed(capsys, *arguments):
    code = table_main([TABLE, *arguments])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


@pytest.fixture(scope="module")
def sweep(tmp_path_factory):
    """The commands of a cut-down plan, run."""
    root = tmp_path_factory.mktemp("table")
    import contextlib
    import io

    text = io.StringIO()
    with contextlib.redirect_stdout(text):
        assert table_main([TABLE, f"runs={root}", "plan=true", *CUT]) == 0
    lines = [line for line in text.getvalue().splitlines() if line.startswith("python ")]
    assert len(lines) == 2
    assert "no estimate for" in text.getvalue()
    for line in lines:
        words = shlex.split(line)[2:]
        assert train_main([*words, f"paths.output_dir={root}", "tracking.progress=none"]) == 0
    return root


def copy_of(sweep, tmp_path):
    return shutil.copytree(sweep, tmp_path / "runs")


def test_the_printed_commands_complete_the_table(sweep, tmp_path, capsys):
    code, out, _ = printed(capsys, f"runs={sweep}", "plan=true", *CUT)
    assert code == 0
    assert "8 of 8 runs are there" in out
    code, out, err = printed(capsys, f"runs={sweep}", f"out={tmp_path}", *CUT)
    assert (code, err) == (0, "")
    text = (tmp_path / "community_multidigits.md").read_text()
    assert "not the protocol of this table, but with dataset.train_size=64" in text.replace("\n  ", " ")
    assert "| mgda |" in text
    assert "Equal optimizer steps" in text
    assert (tmp_path / "community_multidigits.tex").is_file()
    assert (tmp_path / "community_multidigits.csv").read_text().count("\nseed,") == 12


def test_deleting_a_run_makes_it_missing_with_its_command(sweep, tmp_path, capsys):
    runs = copy_of(sweep, tmp_path)
    victim = next(p for p in runs.rglob("summary.json") if "mgda_seed=1" in str(p.parent))
    shutil.rmtree(victim.parent)
    code, out, _ = printed(capsys, f"runs={runs}", "plan=true", *CUT)
    assert "7 of 8 runs are there" in out
    assert "python scripts/train.py -m sweep=community/multidigits strategy=mgda optimizer.lr=0.001 seed=1" in out
    assert "Time: 1 runs: about" in out
    code, out, _ = printed(capsys, f"runs={runs}", *CUT)
    assert code == 0
    assert "mgda: 1 of its runs are missing" in out


def test_without_the_same_overrides_the_runs_are_refused(sweep, capsys):
    code, _, err = printed(capsys, f"runs={sweep}")
    assert code == 1
    assert "trainer.max_epochs 15 -> 1" in err
    code, out, _ = printed(capsys, f"runs={sweep}", "allow_mixed=true")
    assert code == 0
    assert "mgda †" in out
    assert "Settings are mixed" in out


def test_runs_of_two_code_versions_are_refused(sweep, tmp_path, capsys):
    runs = copy_of(sweep, tmp_path)
    file = next(iter(sorted(runs.rglob("summary.json"))))
    summary = json.loads(file.read_text())
    commit = {"git": {"commit": "0" * 40, "dirty": False}}
    file.write_text(json.dumps(summary | commit))
    assert printed(capsys, f"runs={runs}", *CUT)[0] == 0, "a commit that leaves the code alone"
    file.write_text(json.dumps(summary | commit | {"code": "0" * 16}))
    code, _, err = printed(capsys, f"runs={runs}", *CUT)
    assert code == 1
    assert "code versions" in err
    code, out, _ = printed(capsys, f"runs={runs}", "allow_mixed=true", *CUT)
    assert code == 0
    assert "code versions are mixed" in out


def test_the_list_shows_every_table(sweep, capsys):
    assert table_main(["table=list", f"runs={sweep}"]) == 0
    out = capsys.readouterr().out
    assert "sener2018/multimnist " in out
    assert "dataset config `taskonomy` not" in out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["table=sener2018/multimnst"], "is no table. The tables are"),
        (["runs=x"], "`table` is missing"),
        (["table=list", "plan=yes"], "`plan` should be true or false"),
        (["table"], "Arguments are KEY=VALUE"),
        (["table=community/multidigits", "trainer.max_epoch=3"], "max_epochs"),
    ],
)
def test_bad_arguments_are_one_message(arguments, words, capsys):
    assert table_main(arguments) == 1
    assert words in capsys.readouterr().err


def test_another_row_as_the_reference(sweep, capsys):
    code, out, _ = printed(capsys, f"runs={sweep}", "reference=mgda", *CUT)
    assert code == 0
    assert "Difference from mgda, paired by seed" in out
    code, _, err = printed(capsys, f"runs={sweep}", "reference=mgdb", *CUT)
    assert code == 1
    assert "has no row mgdb" in err
