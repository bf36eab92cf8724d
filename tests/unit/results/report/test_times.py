"""Time per step: computed by the processor if every row has it, of the clock otherwise."""

import pytest

from mtl.results.report import gather
from mtl.results.report.times import CPU, WALL, step_times
from tests.unit.results.test_runs import write_run

COST = {"step_seconds": 0.9, "train_cpu_seconds": 0.5}  # over 100 steps: 5 ms computed, 900 ms of the clock


@pytest.mark.parametrize(
    ("changes", "measure", "expected"),
    [
        ({}, CPU, {"uniform": 5.0, "single_task": 10.0}),
        ({"device": "NVIDIA"}, WALL, {"uniform": 900.0, "single_task": 1800.0}),
        ({"cost": {"step_seconds": 0.9}}, WALL, {"uniform": 900.0, "single_task": 1800.0}),
    ],
)
def test_measure(tmp_path, changes, measure, expected):
    made = [write_run(tmp_path, "u", cost=COST, device="cpu")]
    made += [
        write_run(tmp_path, t, values={t: 1.0}, **{"cost": COST, "device": "cpu"} | changes) for t in ("left", "right")
    ]
    found, times = step_times(gather(made))
    assert found == measure
    assert times == pytest.approx(expected)
