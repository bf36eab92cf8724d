"""Strategies: how a batch becomes an update. Six classes connect the maths with the model."""

from mtl.strategies.base import MakeOptimizer, Requirement, StepCost, StepReport, Strategy
from mtl.strategies.bilevel import BilevelStrategy
from mtl.strategies.double_sampling import DoubleSamplingStrategy
from mtl.strategies.gradient import GradientStrategy
from mtl.strategies.loss_weighting import LossWeightingStrategy
from mtl.strategies.sequential import SequentialStrategy
from mtl.strategies.simultaneous import SimultaneousStrategy

__all__ = [
    "BilevelStrategy",
    "DoubleSamplingStrategy",
    "GradientStrategy",
    "LossWeightingStrategy",
    "MakeOptimizer",
    "Requirement",
    "SequentialStrategy",
    "SimultaneousStrategy",
    "StepCost",
    "StepReport",
    "Strategy",
]
