"""Sweeps as the tables see them are what Hydra runs."""

import shlex
from dataclasses import replace

import pytest
import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser

from mtl.config import compose_config
from mtl.config.build import build_spec, config_directory
from mtl.config.sweeps import plan_table
from mtl.errors import ConfigError
from mtl.results.definition import load_definition, only_rows
from mtl.results.plan import commands
from mtl.training.provenance import config_hash, setting_hash

ROOT = config_directory() / "table"
SHORT = ["trainer.max_epochs=2", "seed=0,1"]


@pytest.mark.parametrize(
    ("name", "rows", "step"),
    [
        ("sener2018/multimnist_released", [], 3),
        ("sener2018/celeba", ["single_task"], 111),
        ("sener2018/cityscapes", ["static"], 37),
        ("pascal2021/celeba_groups", ["igd_groups_of_10"], 3),
        ("hervella2024/nyuv2", ["mao_rmsprop", "single_task"], 9),
    ],
)
def test_hashes_are_those_that_runs_will_have(name, rows, step):
    definition = only_rows(load_definition(ROOT, name), rows)
    plan = plan_table(definition, ["trainer.max_epochs=2", "optimizer.lr=1e-2"])
    for job in plan.jobs[step - 1 :: step]:
        words = [f"{key}={value}" for key, value in job.overrides.items()]
        cfg, names = compose_config([f"sweep={job.sweep}", *words, "trainer.max_epochs=2", "optimizer.lr=1e-2"])
        config = build_spec(cfg, names).config
        assert (config_hash(config), setting_hash(config)) == (job.config_hash, job.setting_hash)
        assert config["optimizer"]["lr"] == 0.01


def test_printed_commands_expand_to_the_planned_jobs_in_hydras_own_parser():
    definition = load_definition(ROOT, "community/multidigits")
    plan = plan_table(definition, [*SHORT, "optimizer.lr=0.001", "strategy.weighting.weights=[0.3,0.7],[0.5,0.5]"])
    lines = commands(plan.jobs, plan.parameters, plan.fixed)
    assert len(lines) == 3
    total = 0
    for line in lines:
        words = shlex.split(line)[3:]
        given = {word.partition("=")[0]: word for word in words}
        values = {key: f"{key}={text}" for key, text in plan.parameters[words[0].partition("=")[2]].items()}
        count = 1
        for word in (values | {key: given[key] for key in given if key in values}).values():
            override = OverridesParser.create().parse_override(word)
            count *= len(list(override.sweep_string_iterator())) if override.is_sweep_override() else 1
        total += count
    assert total == len(plan.jobs) == 2 * (2 + 2 + 9)


@pytest.mark.parametrize(
    ("name", "row", "given"),
    [
        ("sener2018/multimnist_short", "static", "strategy.weighting.weights=[0.2,0.8]"),
        ("pascal2021/celeba_groups", "igd_groups_of_10", "optimizer.lr=0.001"),
        ("jeong2025/nyuv2_small", "selective_groups_0.01", "optimizer.lr=0.001"),
    ],
)
def test_what_a_printed_command_fixes_composes_before_the_sweep(name, row, given):
    """As Hydra does it: overrides of one value are composed first, without the sweep's parameters."""
    plan = plan_table(only_rows(load_definition(ROOT, name), [row]), [given, "seed=1"])
    for line in commands(plan.jobs, plan.parameters, plan.fixed):
        words = shlex.split(line)[3:]
        parsed = [OverridesParser.create().parse_override(word) for word in words]
        fixed = [word for word, override in zip(words, parsed, strict=True) if not override.is_sweep_override()]
        assert given in fixed
        compose_config(fixed)


def test_an_override_of_a_parameter_subsets_and_another_key_holds_for_every_job():
    definition = load_definition(ROOT, "community/multidigits")
    plan = plan_table(only_rows(definition, ["mgda", "static"]), [*SHORT, "optimizer.lr=0.003"])
    assert {job.overrides["strategy"] for job in plan.jobs} == {"mgda", "static"}
    assert {job.overrides["optimizer.lr"] for job in plan.jobs} == {"0.003"}
    assert plan.fixed == ("trainer.max_epochs=2",)
    assert {job.config["trainer"]["max_epochs"] for job in plan.jobs} == {2}


def test_rows_are_chosen_by_label_and_not_by_strategy():
    definition = load_definition(ROOT, "community/multidigits")
    with pytest.raises(ConfigError, match=r"has no row mgdaa\. Its rows are single_task, static"):
        only_rows(definition, ["mgdaa"])
    with pytest.raises(ConfigError, match="rows=LABEL"):
        plan_table(definition, ["strategy=mgda"])


def test_a_row_can_fix_parameters_of_its_sweep_and_only_those():
    definition = only_rows(load_definition(ROOT, "pascal2021/celeba_groups"), ["igd_groups_of_10"])
    plan = plan_table(definition, ["seed=0"])
    assert {job.overrides["strategy.grouping.group_size"] for job in plan.jobs} == {"10"}
    assert {job.overrides["strategy.optimizer_state"] for job in plan.jobs} == {"shared"}
    assert len({job.overrides["optimizer.lr"] for job in plan.jobs}) == len(plan.jobs) == 3
    wrong = replace(definition, rows=(replace(definition.rows[0], where={"grouping.group_size": 10}),))
    with pytest.raises(
        ConfigError, match=r"`where` names grouping\.group_size\. Parameters of the sweep .* are strategy"
    ):
        plan_table(wrong)


def test_a_missing_data_set_is_said_not_raised():
    definition = load_definition(ROOT, "jeong2025/taskonomy")
    assert plan_table(definition).unavailable == "dataset config `taskonomy` not available"


@pytest.mark.parametrize("path", sorted((ROOT.parent / "sweep").rglob("static.yaml")), ids=str)
def test_the_tuned_sum_has_at_least_seven_points(path):
    points = yaml.safe_load(path.read_text())["hydra"]["sweeper"]["params"]["strategy.weighting.weights"]
    weights = [point.strip("[]").split(",") for point in points.split("],[")]
    assert len({tuple(point) for point in weights}) >= 7
    assert len({round(sum(map(float, point)), 2) for point in weights}) == 1


def test_a_sweep_that_is_missing_or_has_no_seeds_is_refused(tmp_path, monkeypatch):
    from mtl.config import plugins, sweeps

    definition = load_definition(ROOT, "community/multidigits")
    for group, name in (("dataset", definition.dataset), ("experiment", definition.experiment)):
        (tmp_path / group / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / group / f"{name}.yaml").touch()
    for module in (plugins, sweeps):
        monkeypatch.setattr(module, "config_directory", lambda: tmp_path)
    with pytest.raises(ConfigError, match=r"There is no sweep `community/multidigits/single_task`"):
        plan_table(definition)
    (tmp_path / "sweep/community/multidigits").mkdir(parents=True)
    (tmp_path / "sweep/community/multidigits/single_task.yaml").write_text(
        "hydra: {sweeper: {params: {strategy: uniform}}}"
    )
    with pytest.raises(ConfigError, match=r"should give `seed`"):
        plan_table(definition)
