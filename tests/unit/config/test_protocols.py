"""Every experiment and sweep can be composed and built, and fits the tables that use it."""

from functools import cache

import pytest
import yaml
from hydra.utils import instantiate
from omegaconf import OmegaConf

from mtl.config import compose_config
from mtl.config.build import build_spec, config_directory
from mtl.config.sweeps import plan_table, table_state
from mtl.results.definition import ALL_TASKS, load_definition, table_names
from mtl.strategies import Strategy

ROOT = config_directory()
NO_READER = {"jeong2025/pascal_context", "jeong2025/taskonomy"}
DEFINITIONS = {name: load_definition(ROOT / "table", name) for name in table_names(ROOT / "table")}
READABLE = sorted(set(DEFINITIONS) - NO_READER)


def names_of(group):
    return sorted(str(path.relative_to(ROOT / group).with_suffix("")) for path in (ROOT / group).rglob("*.yaml"))


@cache
def built(experiment):
    """Composed configuration and what is built of it."""
    cfg, names = compose_config([f"experiment={experiment}"])
    return cfg, build_spec(cfg, names)


def first_job(sweep):
    """The sweep's overrides with the first value of each parameter."""
    from mtl.config.sweeps import _elements, _parameters

    return [f"{key}={_elements(key, text)[0]}" for key, text in _parameters(sweep).items()]


@pytest.mark.parametrize("name", names_of("experiment"))
def test_an_experiment_builds_and_is_called_as_its_file(name):
    _, spec = built(name)
    assert spec.names["experiment"] == name
    assert spec.data.tasks


def test_every_sweep_is_used_by_tables_of_its_experiment():
    for name in names_of("sweep"):
        file = yaml.safe_load((ROOT / "sweep" / f"{name}.yaml").read_text())
        users = {d.experiment for d in DEFINITIONS.values() if any(row.sweep == name for row in d.rows)}
        assert file["defaults"] == [{"override /experiment": experiment} for experiment in users], name


@pytest.mark.slow
@pytest.mark.parametrize("name", names_of("sweep"))
def test_the_first_job_of_a_sweep_builds(name):
    cfg, names = compose_config([f"sweep={name}", *first_job(name)])
    assert build_spec(cfg, names).data.tasks


@pytest.mark.parametrize("group", ["experiment", "sweep"])
def test_every_protocol_says_where_it_is_from(group):
    for name in names_of(group):
        header = [line for line in (ROOT / group / f"{name}.yaml").read_text().splitlines() if line.startswith("# ")]
        text = " ".join(header).lower()
        assert any(word in text for word in ("paper", "released", "theirs", "ours", "benchmark", "readme")), name


def test_only_data_without_a_reader_have_no_experiment():
    states = {name: table_state(definition) for name, definition in DEFINITIONS.items()}
    assert {name for name, state in states.items() if isinstance(state, str)} == NO_READER
    assert all(states[name] for name in READABLE)


@pytest.mark.parametrize("name", READABLE)
def test_a_tables_plan_its_columns_and_its_rule_of_choice(name):
    definition = DEFINITIONS[name]
    plan = plan_table(definition)
    compared = [job for job in plan.jobs if not definition.choose_on or job.seed in definition.choose_on]
    assert len(compared) == table_state(definition)
    assert {job.row for job in plan.jobs} == {row.label for row in definition.rows if row.sweep}
    assert len({job.setting_hash for job in plan.jobs}) == 1
    assert len({(job.row, job.config_hash, job.seed) for job in plan.jobs}) == len(plan.jobs)
    assert all(row.published for row in definition.rows if not row.sweep), "a row without runs and without numbers"
    for config in {str(job.config["strategy"]): job.config["strategy"] for job in plan.jobs}.values():
        assert isinstance(instantiate(config, _convert_="all"), Strategy)
    cfg, spec = built(definition.experiment)
    metrics = {task.name: set(task.metrics) for task in spec.data.tasks}
    for column in definition.columns:
        for task in metrics if column.task == ALL_TASKS else [column.task]:
            assert column.metric in metrics[task], f"{task} {column.metric}"
    assert spec.names["dataset"] == definition.dataset
    dataset, selection = cfg.dataset, cfg.trainer.selection
    has_validation = definition.dataset == "celeba" or dataset.val_size > 0
    assert has_validation or selection in ("last", "mean_last_10")
    if not has_validation:  # nothing can be chosen, so there is one candidate for each row and task selection
        candidates = {(job.row, job.tasks, job.config_hash) for job in plan.jobs}
        assert len(candidates) == len({(row, tasks) for row, tasks, _ in candidates})


def test_single_task_rows_train_every_task_alone():
    for name in READABLE:
        for row in DEFINITIONS[name].rows:
            if row.is_single_task:
                file = ROOT / "sweep" / f"{row.sweep}.yaml"
                text = yaml.safe_load(file.read_text())["hydra"]["sweeper"]["params"]["dataset.tasks"]
                tasks = [task.name for task in built(DEFINITIONS[name].experiment)[1].data.tasks]
                assert text == ",".join(f"[{task}]" for task in tasks), file


def test_a_per_method_rate_of_the_released_code_reaches_the_optimizer():
    jobs = plan_table(DEFINITIONS["pascal2021/celeba_released"]).jobs
    rates = {job.row: job.config["optimizer"]["lr"] for job in jobs if job.row != "single_task"}
    assert rates == {
        "uniform": 1e-3,
        "igd": 1e-4,
        "igd_per_task": 1e-4,
        "igd_groups_of_5": 5e-4,
        "igd_per_task_groups_of_10": 5e-4,
        "gradnorm": 1e-3,
        "pcgrad": 1e-3,
        "mgda_ub": 1e-3,
        "maximum_roaming": 5e-4,
    }


def test_the_schedules_of_the_experiments_are_what_they_say():
    expected = {
        "sener2018/celeba": (30, 0.5),
        "sener2018/celeba_released": (10, 0.85),
        "community/nyuv2": (100, 0.5),
        "community/nyuv2_resnet": (100, 0.5),
        "community/cityscapes": (100, 0.5),
    }
    for name, (size, gamma) in expected.items():
        cfg, _ = built(name)
        factory = OmegaConf.to_container(cfg.scheduler.factory)
        assert (factory["step_size"], factory["gamma"]) == (size, gamma), name
    cfg, _ = built("jeong2025/nyud")
    assert cfg.scheduler.interval == "step"
    assert cfg.scheduler.factory.total_iters == cfg.trainer.max_steps == 40000
