"""Loss weightings: loss values to task weights. One file a method; torch only."""

from mtl.weighting.base import LossWeighting, Scalarization
from mtl.weighting.dtp import DTP
from mtl.weighting.dwa import DWA
from mtl.weighting.famo import FAMO
from mtl.weighting.gls import GLS
from mtl.weighting.imtl_l import IMTLL
from mtl.weighting.rlw import RLW
from mtl.weighting.si import SI
from mtl.weighting.static import Static
from mtl.weighting.stch import STCH
from mtl.weighting.uncertainty import Uncertainty
from mtl.weighting.uniform import Uniform

__all__ = [
    "DTP",
    "DWA",
    "FAMO",
    "GLS",
    "IMTLL",
    "RLW",
    "SI",
    "STCH",
    "LossWeighting",
    "Scalarization",
    "Static",
    "Uncertainty",
    "Uniform",
]
