"""The benchmark: rows and bars against the committed list, how a row is judged, how turns are taken."""

import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
BARS = "scripts/bench/bars.yaml"


@pytest.fixture(autouse=True)
def _scripts(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "scripts"))


def current():
    from bench.rows import bars
    from bench.section import NAMES, load

    rows = [row for name in NAMES for row in load(name).rows]
    assert len({row.key for row in rows}) == len(rows), "two rows with one key"
    return rows, bars(rows)


def loosened(old, new, kinds):
    """Keys of `old` that are gone from `new` or easier there."""
    worse = {"speedup": lambda was, now: now < was}
    return [
        key
        for key, bar in old.items()
        if key not in new or worse.get(kinds.get(key), lambda a, b: b > a)(bar, new[key])
    ]


def test_every_bar_of_the_committed_list_stands():
    """Rows that are not listed yet (a new strategy has one by itself) are no reason to fail."""
    _, bars = current()
    listed = yaml.safe_load((ROOT / BARS).read_text())
    changed = sorted(set(listed.items()) - set(bars.items()))
    assert not changed, (
        "Run `python scripts/benchmark.py only=bars`; a row that goes or is loosened needs its key in CHANGELOG.md."
    )


def test_no_bar_was_removed_or_loosened_without_a_word():
    """Every version of the list that the history has; a row may go or be loosened if CHANGELOG.md has its key."""
    rows, bars = current()
    kinds = {row.key: row.kind for row in rows}
    log = subprocess.run(
        ["git", "log", "--format=%H", "--", BARS], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if log.returncode or not log.stdout.strip():
        pytest.skip("no history of the list here")
    changelog = " ".join((ROOT / "CHANGELOG.md").read_text().split())
    for commit in log.stdout.split():
        found = subprocess.run(
            ["git", "show", f"{commit}:{BARS}"], cwd=ROOT, capture_output=True, text=True, check=False
        )
        if found.returncode == 0:
            silent = [key for key in loosened(yaml.safe_load(found.stdout), bars, kinds) if f"`{key}`" not in changelog]
            assert not silent, f"Since {commit[:9]}: {silent}"


def test_loosened():
    kinds = {"a": "ratio", "b": "speedup", "c": "ratio", "d": "value"}
    old = {"a": 1.0, "b": 10.0, "c": 1.0, "d": 1.0}
    assert loosened(old, {"a": 1.1, "b": 9.0, "d": 1.0}, kinds) == ["a", "b", "c"]
    assert loosened(old, {"a": 0.9, "b": 11.0, "c": 1.0, "d": 1.0}, kinds) == []


def row(kind, bar, below="b"):
    from bench.rows import Row

    return Row("s", "n", "a", below, bar, kind)


@pytest.mark.parametrize(
    ("kind", "bar", "number", "met"),
    [
        ("ratio", 0.5, 0.5, True),
        ("ratio", 0.49, 0.5, False),
        ("speedup", 2.0, 2.0, True),
        ("speedup", 2.1, 2.0, False),
        ("difference", -2.0, -2.0, True),
        ("difference", -2.1, -2.0, False),
        ("bytes", 0.5, 0.5, True),
    ],
)
def test_a_row_is_judged_by_the_median_over_rounds(kind, bar, number, met):
    """Ratios are taken within rounds: the median of times would give another number here."""
    from bench.rows import judge

    found = judge(row(kind, bar), {"a": [1.0, 2.0, 30.0], "b": [2.0, 4.0, 600.0]})
    assert (found.number.median, found.met, found.rounds) == (number, met, 3)


def test_only_rounds_with_both_contenders_count():
    from bench.rows import judge

    found = judge(row("ratio", None), {"a": [1.0, 2.0, 3.0], "b": [None, 4.0, None]})
    assert (found.number.median, found.rounds, found.met) == (0.5, 1, None)


def test_the_fastest_rival_counts_and_an_absent_one_does_not():
    from bench.rows import judge

    found = judge(row("ratio", 1.0, ("b", "c", "gone")), {"a": [2.0], "b": [4.0], "c": [1.0]})
    assert found.number.median == 2.0
    assert judge(row("ratio", 1.0), {"b": [1.0]}).number is None
    assert judge(row("ratio", 1.0), {"a": [1.0]}).met is None


def test_every_contender_has_a_turn_in_every_round_but_those_that_take_long():
    from bench.timing import Contender, measure

    turns = []
    contenders = {name: Contender(lambda name=name: turns.append(name) or 1.0) for name in "abc"}
    contenders["slow"] = Contender(lambda: turns.append("slow") or 1.0, most=2)
    found = measure(contenders, rounds=4, warmup=1, limit=1e9, label="")
    assert [sorted(turns[3 * i : 3 * i + 3]) for i in range(1)] == [["a", "b", "c"]]
    assert found["slow"] == [1.0, 1.0, None, None]
    assert all(found[name] == [1.0] * 4 for name in "abc")
    assert len(turns) == 3 + 4 * 3 + 2


def test_the_number_of_a_round_is_the_median_of_its_turns():
    from bench.timing import Contender, measure

    numbers = iter([1.0, 9.0, 2.0, 5.0, 4.0, 3.0])
    contenders = {"a": Contender(lambda: next(numbers), turns=3), "b": Contender(lambda: 7.0)}
    found = measure(contenders, rounds=2, warmup=0, limit=1e9, label="")
    assert found == {"a": [2.0, 4.0], "b": [7.0, 7.0]}


def test_processes_share_the_rounds_of_a_section(monkeypatch):
    from bench import section

    parts = []

    def part(_, *arguments):
        parts.append(arguments)
        return {"a": [float(len(parts))], "b": [None]}

    monkeypatch.setattr(section, "apart", part)
    assert section.load("lenet").processes == 2
    assert section.run("lenet", 2, None, 1.0, "wall") == {"a": [1.0, 2.0], "b": [None, None]}
    assert [arguments[:2] for arguments in parts] == [("lenet", 0), ("lenet", 1)]


def test_a_section_ends_at_its_limit_but_not_before_the_least_rounds():
    from bench.timing import Contender, measure

    found = measure({"a": Contender(lambda: 1.0)}, rounds=10, warmup=1, limit=-1.0, label="", least=3)
    assert len(found["a"]) == 3


def test_an_option_that_is_not_there_leaves_its_rows_unmeasured():
    from bench.problem import LENET
    from bench.steps import build

    from mtl.errors import UserError

    with pytest.raises(UserError):
        build(LENET, "ours:mgda gramian=no_such_way")


def test_missed_rows_are_listed_with_their_notes(tmp_path, monkeypatch):
    from bench import report
    from bench.rows import Row, judge

    notes = tmp_path / "notes.yaml"
    notes.write_text('"s: slow": because of this\n')
    monkeypatch.setattr(report, "NOTES", notes)
    outcomes = [judge(Row("s", name, "a", "b", 1.0), {"a": [2.0], "b": [1.0]}) for name in ("slow one", "other")]
    assert report._missed(outcomes)[2:4] == [
        "- **s: slow one**: because of this",
        "- **s: other**: no explanation yet.",
    ]


def test_the_strategies_of_the_studies_exist_with_their_options():
    from bench.problem import compose_step
    from bench.studies import profiles, scaling

    for setting, text, _ in profiles.STEPS.values():
        compose_step(setting, text)
    for axis in scaling.AXES:
        for strategy in axis.strategies:
            for point, setting in axis.points.items():
                compose_step(setting, scaling._text(axis, strategy, point))


@pytest.mark.parametrize("network", ["LeNet", "MLP"])
def test_networks_of_several_seeds_are_trained_at_once(network):
    from bench.studies.seeds import ensemble

    ensemble(network, 4, 2)()
