"""A paper's table: which runs enter, what is chosen, what is refused, what is printed."""

import csv
import io
import itertools
import random
from dataclasses import replace

import pytest
import yaml

from mtl.errors import ConfigError, UserError
from mtl.results.assignment import assign
from mtl.results.definition import TableColumn, TableDefinition, TableRow, load_definition
from mtl.results.noise import LARGER, ONE_SEED, UNDEFINED, WITHIN, difference
from mtl.results.paper_notes import notes
from mtl.results.paper_rendering import to_csv, to_latex, to_markdown
from mtl.results.paper_table import build_table, paper_delta_m
from mtl.results.plan import PlannedRun, commands, estimate, missing_runs
from mtl.results.published import load_published
from mtl.results.sections import WIDTH, _budget_cell, sections
from tests.problems import REPOSITORY
from tests.unit.results.test_runs import write_run

TABLES = REPOSITORY / "configs/table"
SETTING = "5e77196000"
DEFINITION = TableDefinition(
    name="toy/table",
    title="Toy",
    dataset="multidigits",
    experiment="demo",
    columns=(
        TableColumn("left", "accuracy", "accuracy_left", 1.0, "left accuracy"),
        TableColumn("right", "accuracy", "accuracy_right", 1.0, "right accuracy"),
    ),
    rows=(
        TableRow("single_task", "single_task", "toy/single", None),
        TableRow("uniform", "uniform", "toy", "uniform"),
        TableRow("mgda_ub", "mgda_ub", "toy", "mgda_ub"),
        TableRow("gradnorm", "gradnorm"),
    ),
    protocol={"ours": ("none",)},
    published=load_published("sener2018/table3"),
    reference="uniform",
)
LRS, SEEDS = ("0.01", "0.1"), (0, 1, 2)
CONFIG = {"dataset": {"size": 5}, "trainer": {"max_epochs": 3}}


def job(row, sweep, strategy, lr, seed, tasks=""):
    given = {"strategy": strategy, **({"dataset.tasks": tasks} if tasks else {}), "optimizer.lr": lr, "seed": str(seed)}
    return PlannedRun(row, sweep, given, seed, f"{strategy}{tasks}{lr}", SETTING, CONFIG)


PLAN = [
    job("single_task", "toy/single", "uniform", lr, s, t) for t in ("[left]", "[right]") for lr in LRS for s in SEEDS
]
PLAN += [job(name, "toy", name, lr, s) for name in ("uniform", "mgda_ub") for lr in LRS for s in SEEDS]
FULL = {
    "toy/single": {
        "strategy": "uniform",
        "dataset.tasks": "[left],[right]",
        "optimizer.lr": "0.01,0.1",
        "seed": "0,1,2",
    },
    "toy": {"strategy": "uniform,mgda_ub", "optimizer.lr": "0.01,0.1", "seed": "0,1,2"},
}


def make(root, one, test, val, name=None, **changes):
    tasks = [one.tasks.strip("[]")] if one.tasks else ["left", "right"]
    values = dict(zip(tasks, test if isinstance(test, tuple) else (test, test), strict=False))
    metrics = {
        "val": {task: {"accuracy": val} for task in tasks},
        "test": {task: {"accuracy": value} for task, value in values.items()},
    }
    given = {
        "config_hash": one.config_hash,
        "setting_hash": SETTING,
        "metrics": metrics,
        "epochs": 3,
        "cost": {"optimizer_steps": 100, "backbone_backwards": 200, "train_seconds": 60.0, "peak_memory_bytes": 2**20},
    }
    return write_run(
        root, name or f"{one.config_hash}_{one.seed}", one.overrides["strategy"], one.seed, values, **(given | changes)
    )


@pytest.fixture
def runs(tmp_path):
    """lr 0.1 is best on val and worst on test, for every method."""
    made = []
    for one in PLAN:
        high = one.overrides["optimizer.lr"] == "0.1"
        base = {"single_task": 90.0, "uniform": 80.0, "mgda_ub": 85.0}[one.row]
        test = (90.0 if not high else base) + 0.1 * one.seed * (2 if one.row == "mgda_ub" else 1)
        made.append(make(tmp_path, one, test, 70.0 if high else 60.0))
    return made


def table_of(runs, **options):
    return build_table(DEFINITION, assign(DEFINITION, PLAN, runs, **options))


def row_of(table, label):
    return next(row for row in table.rows if row.definition.label == label)


def text_of(table, plan=PLAN, runs=(), extra=()):
    missing = missing_runs(plan, runs)
    found = notes(table, missing, commands([j for j in missing if j.row == "single_task"], FULL, extra), extra)
    return to_markdown(DEFINITION, sections(table), found)


def test_the_learning_rate_is_chosen_on_validation_never_on_test(runs):
    row = row_of(table_of(runs), "uniform")
    assert row.chosen[0].choice == "lr 0.1"
    assert row.cells["left accuracy"].ours.mean == pytest.approx(80.1)
    assert [one.choice for one in row_of(table_of(runs), "single_task").chosen] == ["lr 0.1", "lr 0.1"]


def test_test_values_cannot_move_the_choice(runs, tmp_path):
    shuffled = random.Random(0).sample(range(100), len(PLAN))
    other = [
        make(tmp_path / "again", one, float(value), run.value("val", next(iter(run.tasks)), "accuracy"))
        for one, run, value in zip(PLAN, runs, shuffled, strict=True)
    ]
    first, second = (
        {label: [one.choice for one in chosen] for label, chosen in assign(DEFINITION, PLAN, found).rows.items()}
        for found in (runs, other)
    )
    assert first == second


def test_without_validation_metrics_nothing_is_chosen(runs, tmp_path):
    blind = [
        make(
            tmp_path / "blind",
            one,
            99.0,
            0.0,
            metrics={"test": {"left": {"accuracy": 99.0}, "right": {"accuracy": 99.0}}},
        )
        for one in PLAN
        if one.row == "uniform"
    ]
    table = table_of([run for run in runs if run.is_single_task] + blind)
    assert row_of(table, "uniform").cells["left accuracy"].ours is None
    assert "no validation metrics" in text_of(table)


def test_differences_and_verdicts_against_the_paper(runs):
    table = table_of(runs)
    cell = row_of(table, "uniform").cells["left accuracy"]
    assert cell.paper.value == 96.46
    assert cell.difference.mean == pytest.approx(80.1 - 96.46)
    assert cell.difference.verdict == LARGER
    only = [run for run in runs if run.seed == 0]
    assert row_of(table_of(only), "uniform").cells["left accuracy"].difference.verdict == ONE_SEED
    assert (
        difference([values["left accuracy"] - 80.15 for values in row_of(table, "uniform").per_seed.values()]).verdict
        == WITHIN
    )


def test_rows_without_runs_keep_their_paper_value_and_stay_empty(runs):
    row = row_of(table_of(runs), "gradnorm")
    assert row.cells["left accuracy"].paper.value == 96.27
    assert row.cells["left accuracy"].ours is None
    assert row.cells["left accuracy"].difference is row.rank is None
    assert row.cost == {} == dict(row.delta_m)
    line = next(line for line in text_of(table_of(runs)).splitlines() if line.startswith("| gradnorm"))
    assert line == "| gradnorm | 96.27 |  |  |  | 94.84 |  |  |  |"


def test_both_delta_m_are_positive_for_better(runs):
    table = table_of(runs)
    row = row_of(table, "uniform")
    assert row.delta_m["Delta_m (task mean)"].mean == pytest.approx(100 * (80.1 - 90.1) / 90.1)
    assert row_of(table, "mgda_ub").paper_delta_m["Delta_m (task mean)"] > 0 > row.paper_delta_m["Delta_m (task mean)"]
    assert table.competitors == ("uniform", "mgda_ub")
    assert (row.rank, row_of(table, "mgda_ub").rank) == (2.0, 1.0)


@pytest.mark.parametrize(
    ("name", "label", "metric_mean", "task_mean"),
    [("community/nyuv2", "uniform", -5.59, 0.88), ("community/cityscapes", "famo", -8.13, -8.13)],
)
def test_the_papers_delta_m_is_the_printed_one_in_our_sign(name, label, metric_mean, task_mean):
    definition = load_definition(TABLES, name)
    row = next(row for row in definition.rows if row.label == label)
    found = paper_delta_m(definition, row)
    assert found["Delta_m (metric mean)"] == pytest.approx(metric_mean, abs=0.0051)
    assert found["Delta_m (task mean)"] == pytest.approx(task_mean, abs=0.0051)


def test_a_mean_over_tasks_has_no_delta_m_of_the_paper():
    definition = load_definition(TABLES, "sener2018/celeba")
    assert [paper_delta_m(definition, row) for row in definition.rows] == [{}] * 5


def test_methods_are_compared_by_pairs_of_seeds(runs):
    found = table_of(runs).paired["mgda_ub"]["left accuracy"]
    assert (found.n, found.mean, found.sd) == (3, pytest.approx(5.1), pytest.approx(0.1))
    assert found.verdict == LARGER


def test_deleting_a_run_shows(runs):
    kept = [run for run in runs if not (run.config_hash == "uniform0.1" and run.seed == 2)]
    before, after = (row_of(table_of(found), "uniform") for found in (runs, kept))
    assert (len(before.per_seed), len(after.per_seed)) == (3, 3)  # 0.01 now has most seeds, so it is the one chosen
    assert after.chosen[0].choice == "lr 0.01"
    assert "uniform: 1 of its runs are missing, so its choice on validation is provisional" in text_of(
        table_of(kept), runs=kept
    )
    assert "provisional" not in text_of(table_of(runs), runs=runs)


def test_missing_single_task_runs_come_with_their_command(runs):
    kept = [run for run in runs if not (run.is_single_task and "right" in run.tasks)]
    text = text_of(table_of(kept), runs=kept)
    assert "Single-task runs missing: 6" in text
    assert "python scripts/train.py -m sweep=toy/single 'dataset.tasks=[right]'" in text
    assert row_of(table_of(kept), "uniform").delta_m == {}


def test_a_changed_configuration_key_is_refused_and_named(runs, tmp_path):
    changed = make(tmp_path, PLAN[-1], 99.0, 99.0, "changed", setting_hash="0ther", config_hash="0ther")
    (changed.path / "config.yaml").write_text(yaml.safe_dump({**CONFIG, "trainer": {"max_epochs": 4}}))
    with pytest.raises(UserError, match="max_epochs 3 -> 4"):
        table_of([*runs, changed])
    mixed = table_of([*runs, changed], allow_mixed=True)
    assert row_of(mixed, "mgda_ub").cells == row_of(table_of(runs), "mgda_ub").cells  # a row of its own runs keeps them
    assert "WARNING: Settings are mixed (allow_mixed=true)" in text_of(mixed)
    alone = table_of([run for run in runs if run.strategy != "mgda_ub"] + [changed], allow_mixed=True)
    assert row_of(alone, "mgda_ub").label == "mgda_ub †"
    assert row_of(alone, "mgda_ub").cells["left accuracy"].ours.mean == 99.0


@pytest.mark.parametrize("git", [{"commit": "d" * 40, "dirty": False}, {"commit": "c" * 40, "dirty": True}])
def test_mixed_code_is_refused(runs, tmp_path, git):
    other = make(tmp_path / "x", PLAN[0], 90.0, 70.0, git=git)
    found = [other, *runs[1:]]
    with pytest.raises(UserError, match="2 code versions"):
        table_of(found)
    assert "2 code versions are mixed (allow_mixed=true)" in text_of(table_of(found, allow_mixed=True))


def with_code(directory, codes, commits):
    return [
        make(directory, one, 90.0, 70.0, code=code, git={"commit": commit, "dirty": False})
        for one, code, commit in zip(PLAN, itertools.cycle(codes), itertools.cycle(commits), strict=False)
    ]


def test_a_commit_that_leaves_the_code_as_it_is_makes_no_stranger(tmp_path):
    text = text_of(table_of(with_code(tmp_path, ["1a"], ["c" * 40, "d" * 40])))
    assert "mixed" not in text
    assert "could not be compared" not in text
    assert "c" * 12 in text  # which commits they were stays there


def test_digests_tell_code_apart_where_a_commit_does_not(tmp_path):
    found = with_code(tmp_path, ["1a", "2b"], [None])
    with pytest.raises(UserError, match=r"2 code versions:\n  code 1a \(git unknown\)"):
        table_of(found)
    assert "2 code versions are mixed (allow_mixed=true)" in text_of(table_of(found, allow_mixed=True))


def test_runs_without_a_digest_are_compared_by_commit(tmp_path):
    with pytest.raises(UserError, match="2 code versions"):
        table_of(with_code(tmp_path / "a", ["1a", ""], ["c" * 40, "d" * 40]))
    assert "mixed" not in text_of(table_of(with_code(tmp_path / "b", ["1a", ""], ["c" * 40])))


@pytest.mark.parametrize("codes", [[""], ["1a", ""]])
def test_a_table_says_if_code_versions_could_not_be_compared(tmp_path, codes):
    assert "Code versions could not be compared" in text_of(table_of(with_code(tmp_path, codes, [None])))


def test_mixed_selection_rules_are_refused(runs, tmp_path):
    other = make(tmp_path / "x", PLAN[0], 90.0, 70.0, selection={"rule": "best_val"})
    with pytest.raises(UserError, match="2 selection rules"):
        table_of([other, *runs[1:]])


def test_what_the_data_are_stands_in_the_notes_and_mixed_preparations_are_refused(runs, tmp_path):
    assert "Data:" not in text_of(table_of(runs))
    noted = [make(tmp_path / "x", one, 90.0, 70.0, data_note="Digits (a part)") for one in PLAN]
    assert "- Data: Digits (a part)." in text_of(table_of(noted))
    with pytest.raises(UserError, match=r"2 preparations of the data[\s\S]*Digits \(a part\): 1 runs"):
        table_of([noted[0], *runs[1:]])
    assert "2 preparations of the data are mixed (allow_mixed=true)" in text_of(
        table_of([noted[0], *runs[1:]], allow_mixed=True)
    )


def test_runs_of_other_experiments_and_learning_rates_are_left_out_and_counted(runs, tmp_path):
    elsewhere = make(tmp_path, PLAN[0], 1.0, 1.0, "elsewhere", experiment="other")
    outside = make(tmp_path, PLAN[0], 1.0, 1.0, "outside", config_hash="lr 7")
    table = table_of([*runs, elsewhere, outside])
    assert table.rows == table_of(runs).rows
    text = text_of(table)
    assert "1 runs of other experiments" in text
    assert "1 runs of this setting are in no sweep" in text


def test_diverged_runs_are_counted_and_a_candidate_with_fewer_seeds_is_not_chosen(runs, tmp_path):
    lost = make(tmp_path / "x", job("uniform", "toy", "uniform", "0.1", 2), 0.0, 0.0, status="diverged", metrics={})
    found = [run for run in runs if not (run.config_hash == "uniform0.1" and run.seed == 2)] + [lost]
    assert row_of(table_of(found), "uniform").chosen[0].choice == "lr 0.01"
    assert missing_runs(PLAN, found) == []  # diverged is a result


def test_order_of_runs_does_not_matter(runs):
    shuffled = random.Random(3).sample(runs, len(runs))
    assert text_of(table_of(shuffled)) == text_of(table_of(runs))


def test_deviating_overrides_stand_in_the_notes(runs):
    assert "not the protocol of this table, but with trainer.max_epochs=2" in text_of(
        table_of(runs), extra=["trainer.max_epochs=2"]
    )


def test_outputs_hold_the_same_numbers(runs):
    table = table_of(runs)
    rows = list(csv.DictReader(io.StringIO(to_csv(table))))
    cell = next(r for r in rows if (r["kind"], r["method"], r["column"]) == ("cell", "uniform", "left accuracy"))
    assert float(cell["ours"]) == pytest.approx(80.1)
    assert float(cell["difference"]) == pytest.approx(80.1 - 96.46)
    assert sum(r["kind"] == "seed" for r in rows) == 3 * 3 * 2
    latex = to_latex(DEFINITION, sections(table), ["50 % & more_or_less"])
    assert latex.count(r"\toprule") == latex.count(r"\bottomrule") == len(sections(table))
    assert r"80.10 $\pm$ 0.10" in latex
    assert r"50 \% \& more\_or\_less" in latex


def test_a_terminal_of_120_columns_is_enough(runs):
    from rich.console import Console

    from mtl.results.paper_rendering import to_rich

    text = io.StringIO()
    console = Console(file=text, width=WIDTH)
    for part in to_rich(DEFINITION, sections(table_of(runs)), ["a note"]):
        console.print(part)
    assert max(map(len, text.getvalue().splitlines())) <= WIDTH
    assert "80.10 ± 0.10" in text.getvalue()


def products(lines):
    """The jobs of printed commands, by an own reading of them."""
    import itertools
    import shlex

    for line in lines:
        words = shlex.split(line)
        sweep = words[3].removeprefix("sweep=")
        given = dict(word.split("=", 1) for word in words[4:])
        values = {key: split(given.get(key, text)) for key, text in FULL[sweep].items()}
        for point in itertools.product(*values.values()):
            yield sweep, tuple(zip(values, point, strict=True))


def split(text):
    parts = text.split("],[")
    return [f"[{part.strip('[]')}]" for part in parts] if text.startswith("[") else text.split(",")


@pytest.mark.parametrize("seed", range(20))
def test_commands_make_exactly_the_missing_runs(seed):
    generator = random.Random(seed)
    missing = [one for one in PLAN if generator.random() < generator.choice((0.2, 0.9))]
    made = list(products(commands(missing, FULL, [])))
    wanted = [(one.sweep, tuple(one.overrides.items())) for one in missing]
    assert sorted(made) == sorted(wanted)


def test_a_whole_sweep_is_one_short_command():
    assert commands(PLAN, FULL, ["trainer.max_epochs=2"]) == [
        "python scripts/train.py -m sweep=toy/single trainer.max_epochs=2",
        "python scripts/train.py -m sweep=toy trainer.max_epochs=2",
    ]
    seeds = [one for one in PLAN if one.seed == 1 and one.row != "single_task"]
    assert commands(seeds, FULL, []) == ["python scripts/train.py -m sweep=toy seed=1"]


def test_an_option_of_one_value_has_its_strategy_beside_it():
    """Hydra would look for it in the default strategy."""
    full = {"toy": {"strategy": "static,mgda", "strategy.scale": "1,2", "optimizer.lr": "0.1", "seed": "0"}}

    def one(strategy, scale):
        given = {"strategy": strategy, "strategy.scale": scale, "optimizer.lr": "0.1", "seed": "0"}
        return PlannedRun("row", "toy", given, 0, strategy + scale, SETTING, CONFIG)

    prefix = "python scripts/train.py -m sweep=toy"
    assert commands([one("static", "2"), one("mgda", "2")], full, []) == [
        f"{prefix} strategy=static strategy.scale=2",
        f"{prefix} strategy=mgda strategy.scale=2",
    ]
    assert commands([one(s, v) for s in ("static", "mgda") for v in "12"], full, []) == [prefix]
    assert commands([one("static", v) for v in "12"], full, []) == [f"{prefix} strategy=static"]


def test_times_are_estimated_from_runs_of_the_same_method_only(runs):
    done = [run for run in runs if run.strategy == "uniform" and run.seed == 0 and not run.is_single_task]
    text = estimate(missing_runs(PLAN, done), PLAN, done)
    assert "4 runs: about 4 min" in text
    assert "no estimate for single_task (12 runs), mgda_ub (6 runs): no run of this method yet" in text


def test_a_definition_with_a_wrong_key_or_row_is_refused(tmp_path):
    node = {
        "title": "t",
        "dataset": "d",
        "experiment": "e",
        "published": "sener2018/table3",
        "columns": [{"task": "left", "metric": "accuracy", "published": "accuracy_left"}],
        "rows": [{"label": "uniform", "published": "uniform"}],
        "protocol": {},
    }

    def load(**changes):
        (tmp_path / "x.yaml").write_text(yaml.safe_dump(node | changes))
        return load_definition(tmp_path, "x")

    assert load().columns[0].title == "left accuracy"
    for changes, words in (
        ({"colums": []}, "unknown keys"),
        ({"rows": [{"label": "a", "published": "nash"}]}, "nash"),
        ({"rows": [{"label": "a"}, {"label": "a"}]}, "twice"),
        ({"reference": "mgda"}, "none of the rows"),
        ({"columns": [{"task": "left", "metrics": "accuracy"}]}, "unknown keys"),
    ):
        with pytest.raises(ConfigError, match=words):
            load(**changes)
    with pytest.raises(ConfigError, match="The tables are x"):
        load_definition(tmp_path, "y")


def with_value(run, split, value, task="left"):
    return replace(run, metrics={**run.metrics, split: {**run.metrics[split], task: {"accuracy": value}}})


def chosen_run(run, label, seed):
    return run.config_hash.startswith(label) and run.config_hash.endswith("0.1") and run.seed == seed


def line_of(text, section, label):
    part = text.split(f"## {section}")[1].split("##")[0]
    return [cell.strip() for cell in next(one for one in part.splitlines() if one.startswith(f"| {label}")).split("|")]


def test_an_undefined_metric_has_no_mean_no_verdict_and_no_delta_m_and_is_counted(runs):
    runs = [with_value(run, "test", None) if chosen_run(run, "mgda_ub0", 1) else run for run in runs]
    table = table_of(runs)
    row = row_of(table, "mgda_ub")
    assert row.delta_m == {}
    assert row.rank is None
    assert row.cells["left accuracy"].difference.verdict == UNDEFINED
    assert row.cells["right accuracy"].difference.verdict == LARGER
    text = text_of(table)
    assert line_of(text, "Values", "mgda_ub")[2:6][1:] == ["undefined", "", "undefined"]
    assert "nan" not in text.lower()
    assert "nan" not in to_latex(DEFINITION, sections(table), ()).lower()
    assert "WARNING: mgda_ub has undefined metrics" in text
    assert "left accuracy (1 of 3 seeds)" in text
    lines = list(csv.DictReader(io.StringIO(to_csv(table))))
    cell = next(one for one in lines if (one["kind"], one["method"]) == ("cell", "mgda_ub"))
    assert (cell["ours"], cell["sd"], cell["n"], cell["verdict"]) == ("", "", "3", "undefined")
    assert "nan" not in to_csv(table)


def test_an_undefined_baseline_leaves_no_delta_m(runs):
    runs = [with_value(run, "test", None) if chosen_run(run, "uniform[left]", 1) else run for run in runs]
    table = table_of(runs)
    assert all(row.delta_m == {} for row in table.rows)
    assert "single_task has undefined metrics" in text_of(table)
    assert row_of(table, "uniform").rank is not None


def test_an_undefined_metric_within_a_budget_is_not_called_unevaluated(runs):
    """metrics.jsonl holds null; a row whose runs all diverged has nothing that could still be evaluated."""

    def changed(run):
        events = [{"event": "evaluation", "step": 50, "epoch": 1, "metrics": dict(run.metrics)}]
        if run.config_hash == "mgda_ub0.1":
            return replace(run, recorded=tuple(events), status="diverged", metrics={})
        if run.config_hash == "mgda_ub0.01":
            return replace(run, recorded=tuple(events), status="diverged", metrics={})
        return replace(with_value(run, "test", 1.0), recorded=tuple(events), steps=100)

    events = {"left": {"accuracy": None}, "right": {"accuracy": 80.0}}
    made = []
    for run in map(changed, runs):
        if run.config_hash == "uniform0.1":
            run = replace(
                run, recorded=({"event": "evaluation", "step": 50, "epoch": 1, "metrics": {"test": events, "val": {}}},)
            )
        made.append(replace(run, selection={"rule": "last"}))
    text = text_of(table_of(made))
    assert line_of(text, "Equal optimizer steps", "uniform")[2] == "undefined"
    assert line_of(text, "Equal optimizer steps", "mgda_ub")[2] == "no completed run"


def test_a_candidate_without_validation_cannot_be_chosen_and_leaves_the_row_its_others(runs):
    runs = [with_value(run, "val", None) if chosen_run(run, "mgda_ub0", 1) else run for run in runs]
    table = table_of(runs)
    (chosen,) = row_of(table, "mgda_ub").chosen
    assert (chosen.choice, chosen.undefined, chosen.compared) == ("lr 0.01", 1, 2)
    assert "mgda_ub: 1 of 2 candidates have an undefined validation metric and could not be chosen" in text_of(table)
    none = [with_value(run, "val", None) if run.config_hash.startswith("mgda_ub0") else run for run in runs]
    none = [with_value(run, "val", None, "right") if run.config_hash.startswith("mgda_ub0") else run for run in none]
    (chosen,) = row_of(table_of(none), "mgda_ub").chosen
    assert (chosen.choice, chosen.runs) == ("", ())
    assert "no validation metrics" in chosen.note


def test_a_seed_that_is_there_twice_counts_once_everywhere(runs, tmp_path):
    """Its copy outweighs the other seeds neither in the choice nor in a view of equal budgets."""
    val = {("0.01", 0): 90.0, ("0.01", 1): 40.0, ("0.01", 2): 40.0}
    made = []
    for run in runs:
        lr = "0.01" if run.config_hash.endswith("0.01") else "0.1"
        if run.config_hash.startswith("uniform0"):
            for task in ("left", "right"):
                run = with_value(run, "val", val.get((lr, run.seed), 60.0), task)
        made.append(replace(run, selection={"rule": "last"}))
    first = next(run for run in made if run.config_hash == "uniform0.01" and run.seed == 0)
    copies = [replace(first, path=tmp_path / f"copy{i}") for i in range(3)]
    assert row_of(table_of([*made, *copies]), "uniform").chosen[0].choice == "lr 0.1"
    kept = next(run for run in made if run.config_hash == "uniform0.1" and run.seed == 0)
    copy = replace(with_value(kept, "test", 99.0), path=tmp_path / "again", recorded=())
    table = table_of([*made, copy])
    assert row_of(table, "uniform").seeds_text == "3"
    text = text_of(table)
    assert "uniform: runs of seed 0 are there more than once; they are averaged and count as one seed" in text
    assert "WARNING: uniform: one configuration, seed and code, different results" in text
    column = table.columns[0]
    metrics = [(seed, {"left": {"accuracy": value}}) for seed, value in ((0, 1.0), (0, 3.0), (1, 4.0))]
    assert _budget_cell(table, column, metrics) == "3.00 ± 1.41"
    assert _budget_cell(table, column, metrics[:2]) == "2.0000"


def test_seeds_of_single_tasks_are_said_as_a_range_where_they_differ(runs):
    kept = [r for r in runs if not (r.config_hash.startswith("uniform[left]") and r.seed)]
    assert row_of(table_of(kept), "single_task").seeds_text == "1..3"
    kept = [r for r in runs if not r.config_hash.startswith("uniform[left]")]
    assert row_of(table_of(kept), "single_task").seeds_text == "0..3"


def test_differences_without_a_spread_have_no_verdict(runs):
    runs = [with_value(run, "test", 80.0) if run.config_hash == "uniform0.1" else run for run in runs]
    runs = [with_value(run, "test", 85.0) if run.config_hash == "mgda_ub0.1" else run for run in runs]
    text = text_of(table_of(runs))
    assert "no spread" in line_of(text, "Difference from uniform", "mgda_ub")
    same = [with_value(run, "test", 80.0) if run.config_hash == "mgda_ub0.1" else run for run in runs]
    assert "equal" in line_of(text_of(table_of(same)), "Difference from uniform", "mgda_ub")


def test_runs_on_different_data_are_refused(runs):
    """A record of before has no fingerprint: that is unknown, not different."""
    runs = [replace(run, data="" if run.seed else "+".join(run.tasks)) for run in runs]
    table_of(runs)
    mixed = [replace(run, data="f" * 64) if chosen_run(run, "mgda_ub0", 1) else run for run in runs]
    with pytest.raises(UserError, match=r"(?s)same data.*2 fingerprints of the data of left, right.*allow_mixed=true"):
        table_of(mixed)
    assert "WARNING: Data are mixed" in text_of(table_of(mixed, allow_mixed=True))


@pytest.mark.parametrize(("factor", "shown"), [(1.4, True), (1.6, False), (None, True)])
def test_equal_seconds_are_shown_only_where_seconds_passed_evenly(runs, factor, shown):
    """Runs made side by side on a busy machine: seconds are not what a method needs. Unknown CPU time shows them."""

    def spent(run):
        wall = 60.0 * (factor or 9.0) if run.config_hash == "mgda_ub0.1" and run.seed == 1 else 60.0
        cpu = {} if factor is None else {"train_cpu_seconds": 50.0}
        return replace(run, cost={**run.cost, "train_seconds": wall, **cpu}, selection={"rule": "last"})

    text = text_of(table_of([spent(run) for run in runs]))
    assert ("## Equal training seconds" in text) == shown
    assert ("## Equal CPU seconds of training" in text) == (factor is not None)
    assert ("No view of equal training seconds: seconds per CPU second differ by a factor of 1.6" in text) != shown
