"""Loss weightings: loss values to task weights. One file a method; torch only."""

from mtl.weighting.base import LossWeighting, Scalarization
from mtl.weighting.dwa import DWA
from mtl.weighting.rlw import RLW
from mtl.weighting.static import Static
from mtl.weighting.uncertainty import Uncertainty
from mtl.weighting.uniform import Uniform

__all__ = ["DWA", "RLW", "LossWeighting", "Scalarization", "Static", "Uncertainty", "Uniform"]
