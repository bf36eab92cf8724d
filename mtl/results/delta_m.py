"""Delta_m: how much better than single-task training, in percent. The sign of the framework is fixed here.

**POSITIVE = better than single-task.** This is the sign of Vandenhende et al. (2021, arXiv:2004.13379), LibMTL and
auto-lambda. CAGrad, Nash-MTL, FAMO, FairGrad and SDMGrad print the opposite sign: negate their numbers before
comparing. Two definitions are in use, and they can disagree about better and worse: linear scalarization on NYUv2
(SegNet-MTAN, as published) is at -5.59 by the mean over metrics and at +0.88 by the mean over tasks.
"""

from collections.abc import Mapping

from mtl.errors import UserError

Values = Mapping[str, Mapping[str, float]]
"""Task -> metric -> value."""
Directions = Mapping[str, Mapping[str, bool]]
"""Task -> metric -> whether higher is better."""


def delta_m_task_mean(method: Values, baseline: Values, higher_is_better: Directions) -> float:
    r"""Delta_m with equal weight for each task.

    .. math:: 100\ \frac{1}{m} \sum_t \frac{1}{|M_t|} \sum_{i \in M_t} s_i \frac{v_i - b_i}{|b_i|}

    where :math:`s_i` is +1 if higher is better and -1 otherwise, :math:`v_i` the method's value, :math:`b_i` the
    single-task value. Used by the survey of Vandenhende et al., LibMTL and auto-lambda, with this sign. LibMTL's own
    code takes epoch 0 of the same run as :math:`b`; ours takes single-task runs.

    Args:
        method: The method's metrics; they decide which tasks and metrics count.
        baseline: Single-task metrics, in the same units; at least those of `method`, none zero.
        higher_is_better: Direction of each metric.

    Returns:
        Percent, unbounded; positive = better than single-task, 0 for the baseline itself.

    Raises:
        UserError: A single-task value is zero or missing, or there is nothing to average.
    """
    gains = _gains(method, baseline, higher_is_better)
    return sum(sum(task) / len(task) for task in gains) / len(gains)


def delta_m_metric_mean(method: Values, baseline: Values, higher_is_better: Directions) -> float:
    r"""Delta_m with equal weight for each metric, so a task counts by its number of metrics (NYUv2: normals 5/9).

    .. math:: 100\ \frac{1}{\sum_t |M_t|} \sum_t \sum_{i \in M_t} s_i \frac{v_i - b_i}{|b_i|}

    Used by CAGrad, Nash-MTL, FAMO, FairGrad and SDMGrad, **with the opposite sign** (negative = better).
    Symbols, arguments, return value and errors: as in `delta_m_task_mean`.
    """
    gains = _gains(method, baseline, higher_is_better)
    return sum(sum(task) for task in gains) / sum(len(task) for task in gains)


def _gains(method: Values, baseline: Values, higher_is_better: Directions) -> list[list[float]]:
    """Relative gain of each metric in percent, by task."""
    gains: list[list[float]] = []
    for task, metrics in method.items():
        gains.append([])
        for metric, value in metrics.items():
            reference = baseline.get(task, {}).get(metric)
            if reference is None:
                raise UserError(
                    f"Delta_m needs a single-task value of {task}/{metric}. Found none. Run `{task}` on its own first."
                )
            if reference == 0:
                raise UserError(
                    f"Delta_m needs single-task values other than zero. Found {task}/{metric} = 0. "
                    "Leave this metric out, or report differences instead."
                )
            sign = 1.0 if higher_is_better[task][metric] else -1.0
            gains[-1].append(100.0 * sign * (value - reference) / abs(reference))
    if not gains or not all(gains):
        raise UserError("Delta_m needs at least one metric of each task. Found a method without metrics.")
    return gains
