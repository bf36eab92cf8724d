"""Published numbers recompute the means, Delta_m and ranks that their papers print."""

import copy
from pathlib import Path

import pytest
import yaml
from scipy.stats import spearmanr

import mtl.results.published as published
from mtl.errors import ConfigError
from mtl.results.delta_m import delta_m_metric_mean, delta_m_task_mean
from mtl.results.published import load_published, parse_table, published_names
from mtl.results.statistics import mean, mean_rank

FOLDER = Path(published.__file__).parent
BENCHMARKS = ["nyuv2_segnet_mtan/published", "nyuv2_segnet_mtan/libmtl_rerun", "cityscapes_segnet_mtan/published"]


def raw(file):
    return yaml.safe_load((FOLDER / f"{file}.yaml").read_text())


def nested(table, row, what=lambda cell: cell.value):
    """Task -> metric -> value; a table without tasks has one metric a task."""
    result = {}
    for metric in table.metrics:
        result.setdefault(metric.task or metric.name, {})[metric.key] = what(row.values[metric.key])
    return result


def directions(table):
    result = {}
    for metric in table.metrics:
        result.setdefault(metric.task or metric.name, {})[metric.key] = metric.higher_is_better
    return result


@pytest.mark.parametrize("name", published_names())
def test_every_table_has_a_source_and_numbers_or_a_reason(name):
    table = load_published(name)
    assert table.source
    assert table.rows or table.empty_because
    assert not (table.rows and table.empty_because)


@pytest.mark.parametrize("method", ["single_task", "uniform", "kendall2018", "gradnorm", "mgda_ub"])
def test_celeba_attributes_average_to_the_means_of_table_1(method):
    attributes, means = load_published("sener2018/table5"), load_published("sener2018/table1")
    row = attributes.row(method)
    assert len(row.values) == 40
    average = mean([cell.value for cell in row.values.values()])
    assert average == pytest.approx(means.row(method).values["mean_error"].value, abs=0.005)


@pytest.mark.parametrize(
    ("name", "row"), [(name, row.label) for name in BENCHMARKS for row in load_published(name).rows]
)
def test_delta_m_columns_recompute_with_both_definitions(name, row):
    table = load_published(name)
    found = next(one for one in table.rows if one.label == row)
    arguments = nested(table, found), nested(table, table.single_task), directions(table)
    for key, define in (("metric_mean", delta_m_metric_mean), ("task_mean", delta_m_task_mean)):
        assert -define(*arguments) == pytest.approx(found.delta_m[key], abs=0.0051), key


def test_delta_m_of_auto_lambda_has_our_sign():
    table = load_published("nyuv2_deeplab_r50_autolambda/published")
    rows = raw("nyuv2_deeplab_r50_autolambda")["tables"]["published"]["rows"]
    for row, node in zip(table.rows, rows, strict=True):
        ours = delta_m_task_mean(nested(table, row), nested(table, table.single_task), directions(table))
        assert ours == pytest.approx(node["delta_mtl_published"], abs=0.0051), row.label


def test_celeba_f1_recomputes_delta_m_and_means():
    table = load_published("celeba_40_f1/published")
    row = table.row("fairgrad")
    ours = delta_m_task_mean(nested(table, row), nested(table, table.single_task), directions(table))
    node = raw("celeba_40_f1")["tables"]["published"]["rows"][0]
    assert -ours == pytest.approx(node["delta_m"], abs=0.005)
    for label, one in (("single_task", table.single_task), ("FairGrad", row)):
        assert mean([cell.value for cell in one.values.values()]) == pytest.approx(node["mean_f1"][label], abs=5e-5)


def test_delta_m_of_the_sibling_paper_recomputes_within_its_rounding():
    table = load_published("dtme_mtl2025/taskonomy_vit_t")
    single = table.row("single_task")
    for row in table.rows:
        if row.status:
            assert row.values == {}
            continue
        tasks = [metric.key for metric in table.metrics if metric.key != "delta_m"]
        values, base = ({key: {key: one.values[key].value} for key in tasks} for one in (row, single))
        ours = delta_m_task_mean(values, base, {key: {key: False} for key in tasks})
        assert ours == pytest.approx(row.values["delta_m"].value, abs=0.045), row.label


def test_mean_ranks_of_nyuv2_recompute_and_move_with_the_competitors():
    table, printed = load_published("nyuv2_segnet_mtan/published"), raw("nyuv2_segnet_mtan")["mean_rank"]
    higher = {metric.key: metric.higher_is_better for metric in table.metrics}
    for competitors in (printed["competitors_12"], printed["competitors_14"]):
        rows = {row.label: {k: cell.value for k, cell in row.values.items()} for row in table.rows}
        found = mean_rank({label: rows[label] for label in competitors}, higher)
        assert found == pytest.approx(competitors, abs=0.0051)


def test_published_rows_and_the_rerun_barely_agree_on_the_order():
    first, second = (load_published(name) for name in BENCHMARKS[:2])
    shared = [row.method for row in first.rows if second.row(row.method) and row.method not in ("imtl_g", "imtl")]
    pairs = [[table.row(m).delta_m["metric_mean"] for m in shared] for table in (first, second)]
    # IMTL-G stands beside LibMTL's IMTL in the stored comparison
    pairs[0].append(first.row("imtl_g").delta_m["metric_mean"])
    pairs[1].append(second.row("imtl").delta_m["metric_mean"])
    stored = raw("nyuv2_segnet_mtan")["published_vs_libmtl"]
    assert len(pairs[0]) == 14
    assert spearmanr(*pairs).statistic == pytest.approx(stored["spearman"], abs=0.005)


def test_intervals_are_kept():
    cell = load_published("kurin2022/multimnist_test").row("mgda_ub").values["mean_accuracy"]
    assert (cell.value, cell.ci) == (94.78, 0.20)


def change(path, value):
    def apply(node):
        *keys, last = path
        for key in keys:
            node = node[key]
        if value is None:
            del node[last]
        else:
            node[last] = value

    return apply


@pytest.mark.parametrize(
    ("apply", "words"),
    [
        (change(["source"], None), "lacks `source`"),
        (change(["confidence"], "hearsay"), "confidence"),
        (change(["rows", 0, "values"], [1.0]), "one value for each of 2 metrics"),
        (change(["rows", 0, "status"], "not_converged"), "or a `status`"),
        (change(["rows"], []), "no `empty_because`"),
        (change(["metrics", 1, "name"], "accuracy_left"), "more than once"),
        (change(["rows", 1, "label"], "Single task"), "more than once"),
    ],
)
def test_a_broken_table_is_refused(apply, words):
    node = copy.deepcopy(raw("sener2018")["tables"]["table3"])
    parse_table("x", node)
    apply(node)
    with pytest.raises(ConfigError, match=words):
        parse_table("x", node)


def test_an_unknown_table_names_the_known_ones():
    with pytest.raises(ConfigError, match="sener2018/table3"):
        load_published("sener2018/table33")
