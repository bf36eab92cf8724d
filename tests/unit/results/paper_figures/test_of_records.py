"""Figures of what runs recorded: by the record's contract, averaged over seeds, or a message that says what to set."""

import json

import pytest

from mtl.errors import UserError
from mtl.results.methods import group_methods
from mtl.results.paper_figures import METHODS_KINDS, FigureDefinition
from mtl.results.statistics import mean
from tests.unit.results.paper_figures.synthetic import LAYERS, TASKS, recorded
from tests.unit.results.test_runs import write_run

OPTIONS = {"affinity_by_option": {"option": "grouping.decay_rate"}}


def draw(kind, runs, tmp_path, **options):
    definition = FigureDefinition(f"paper/{kind}", "A figure", kind, None, OPTIONS.get(kind, {}) | options)
    return METHODS_KINDS[kind](group_methods(runs), definition, tmp_path / "x")


def events(run, kind="diagnostics"):
    return {event["step"]: event for event in run.events(kind)}


def line_of(axes, label):
    (line,) = [line for line in axes.lines if line.get_label() == label]
    return dict(zip(map(int, line.get_xdata()), map(float, line.get_ydata()), strict=True))


def test_paths_are_means_over_seeds_and_the_ratio_is_of_each_run(tmp_path, drawn):
    runs = [recorded(tmp_path, f"{s}{seed}", s, seed) for s in ("igd", "uniform") for seed in (0, 1)]
    draw("exploration", runs, tmp_path)
    path, displacement, ratio = drawn[0].axes
    own = [events(run) for run in runs if run.strategy == "igd"]
    assert line_of(path, "igd")[1000] == pytest.approx(mean([e[1000]["path_length"] for e in own]))
    assert line_of(displacement, "igd")[20] == pytest.approx(mean([e[20]["displacement"] for e in own]))
    ratios = [e[500]["path_length"] / e[500]["displacement"] for e in own]
    assert line_of(ratio, "igd")[500] == pytest.approx(mean(ratios))


def test_steps_that_a_seed_lacks_are_left_out_and_a_resumed_record_counts_once(tmp_path, drawn):
    runs = [recorded(tmp_path, str(seed), "igd", seed) for seed in (0, 1)]
    file = runs[1].path / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    lines = [line for line in lines if not (line["event"] == "diagnostics" and line["step"] == 40)]
    again = [line | {"path_length": 7.0, "displacement": 7.0} for line in lines if line["step"] == 60]
    file.write_text("".join(json.dumps(line) + "\n" for line in [*lines, *again]))
    draw("exploration", runs, tmp_path)
    curve = line_of(drawn[0].axes[0], "igd")
    assert set(curve) == {20, *range(60, 1001, 20)}
    assert curve[60] == pytest.approx(mean([events(runs[0])[60]["path_length"], 7.0]))


def test_shares_over_steps_sum_to_one_and_stand_beside_the_ideal(tmp_path, drawn):
    run = recorded(tmp_path, "a", "mao")
    draw("shares_by_step", [run], tmp_path)
    panels = drawn[0].axes
    assert [axes.get_title(loc="left") for axes in panels] == [
        ".".join(LAYERS[i].split(".")[-3:]) for i in (0, 2, 4, 5, 7)
    ]  # five of eight, ends included
    sums = [sum(line_of(panels[0], task)[step] for task in TASKS) for step in (20, 500, 1000)]
    assert sums == pytest.approx([1, 1, 1])
    ideal = next(line for line in panels[0].lines if line.get_label() == "equal shares, 1/m")
    assert set(ideal.get_ydata()) == {1 / 3}


def test_shares_over_layers_are_means_over_steps(tmp_path, drawn):
    run = recorded(tmp_path, "a", "mao")
    draw("shares_by_layer", [run], tmp_path)
    expected = [mean([e["update_share"][layer]["depth"] for e in events(run).values()]) for layer in LAYERS]
    assert list(line_of(drawn[0].axes[0], "depth").values()) == pytest.approx(expected)


def test_affinities_keep_source_and_target_apart(tmp_path, drawn):
    run = recorded(tmp_path, "a", "selective_groups")
    draw("affinity_curves", [run], tmp_path)
    axes = drawn[0].axes[1]
    assert axes.get_title(loc="left") == "on depth"
    assert line_of(axes, "segmentation (source)")[400] == events(run)[400]["affinity"][0][1]
    assert not any("depth" in str(line.get_label()) for line in axes.lines)


def test_maps_are_of_four_steps_ends_included(tmp_path, drawn):
    run = recorded(tmp_path, "a", "selective_groups")
    draw("affinity_maps", [run], tmp_path)
    images = [axes for axes in drawn[0].axes if axes.images]
    assert [axes.get_title(loc="left") for axes in images] == ["step 20", "step 340", "step 680", "step 1000"]
    assert images[-1].images[0].get_array().tolist() == events(run)[1000]["affinity"]


def test_an_affinity_that_is_not_yet_known_is_a_gap(tmp_path, drawn):
    run = recorded(tmp_path, "a", "selective_groups")
    file = run.path / "metrics.jsonl"
    lines = [json.loads(line) for line in file.read_text().splitlines()]
    for line in lines:
        if line.get("affinity") and line["step"] == 20:
            line["affinity"][0][1] = None
    file.write_text("".join(json.dumps(line) + "\n" for line in lines))
    draw("affinity_curves", [run], tmp_path)
    draw("affinity_maps", [run], tmp_path)
    assert min(line_of(drawn[0].axes[1], "segmentation (source)")) == 40


def test_decay_rates_are_told_apart_by_their_value(tmp_path, drawn):
    runs = [
        recorded(tmp_path, f"{decay}{seed}", "selective_groups", seed, decay=decay)
        for decay in (0.01, 0.001)
        for seed in (0, 1)
    ]
    draw("affinity_by_option", runs, tmp_path)
    axes = drawn[0].axes[1]
    assert axes.get_title(loc="left") == "segmentation on depth"
    own = [events(run)[200]["affinity"][0][1] for run in runs[:2]]
    assert line_of(axes, "decay rate 0.01")[200] == pytest.approx(mean(own))
    with pytest.raises(UserError, match=r"differ in strategy\.grouping\.decay_rate\. Found 0\.01"):
        draw("affinity_by_option", runs[:2], tmp_path)


def test_group_counts_are_moving_means_of_each_run(tmp_path, drawn):
    run = recorded(tmp_path, "a", "selective_groups")
    draw("group_counts", [run], tmp_path, window=5)
    counts = [len(event["groups"]) for event in events(run, "step").values()]
    expected = [mean(counts[i - 4 : i + 1]) for i in range(4, len(counts))]
    assert list(line_of(drawn[0].axes[0], "selective_groups").values()) == pytest.approx(expected)


WANTED = {
    "exploration": "tracking.diagnostics.path=true",
    "shares_by_step": "tracking.diagnostics.every=",
    "shares_by_layer": "tracking.diagnostics.every=",
    "affinity_curves": "tracking.diagnostics.every=",
    "affinity_maps": "tracking.diagnostics.every=",
    "affinity_by_option": "tracking.diagnostics.every=",
    "group_counts": "selective_groups",
}


@pytest.mark.parametrize("kind", METHODS_KINDS)
def test_runs_without_the_record_say_what_to_set(kind, tmp_path):
    with pytest.raises(UserError, match=WANTED[kind]):
        draw(kind, [write_run(tmp_path, "a")], tmp_path)
    with pytest.raises(UserError, match="needs completed multi-task runs"):
        draw(kind, [write_run(tmp_path, "b", values={"left": 1.0})], tmp_path)


def test_a_method_without_the_quantity_is_left_out_not_drawn_empty(tmp_path, drawn):
    runs = [recorded(tmp_path, "a", "mao"), recorded(tmp_path, "b", "pcgrad", keep=("path_length", "displacement"))]
    draw("shares_by_layer", runs, tmp_path)
    assert [axes.get_title(loc="left") for axes in drawn[0].axes] == ["mao"]


def test_runs_of_two_settings_are_refused(tmp_path):
    runs = [recorded(tmp_path, "a", "mao"), recorded(tmp_path, "b", "igd", setting_hash="0ther")]
    with pytest.raises(UserError, match="experiment=") as error:
        draw("exploration", runs, tmp_path)
    assert "Found 2" in str(error.value)
