"""Strategies: how a batch becomes an update. A few classes connect the maths with the model."""

from mtl.strategies.base import MakeOptimizer, Requirement, StepCost, StepReport, Strategy
from mtl.strategies.bilevel import BilevelStrategy
from mtl.strategies.double_sampling import DoubleSamplingStrategy
from mtl.strategies.gradient import GradientStrategy
from mtl.strategies.lookahead import LookaheadAffinityStrategy
from mtl.strategies.loss_weighting import LossWeightingStrategy
from mtl.strategies.roaming import RoamingStrategy
from mtl.strategies.rotograd import RotoGradStrategy
from mtl.strategies.sequential import SequentialStrategy
from mtl.strategies.simultaneous import SimultaneousStrategy

__all__ = [
    "BilevelStrategy",
    "DoubleSamplingStrategy",
    "GradientStrategy",
    "LookaheadAffinityStrategy",
    "LossWeightingStrategy",
    "MakeOptimizer",
    "Requirement",
    "RoamingStrategy",
    "RotoGradStrategy",
    "SequentialStrategy",
    "SimultaneousStrategy",
    "StepCost",
    "StepReport",
    "Strategy",
]
