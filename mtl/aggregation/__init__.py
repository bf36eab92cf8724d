"""Aggregators: task gradients, or their inner products alone, to task weights. One file a method; torch only."""

from mtl.aggregation.aligned_mtl import AlignedMTL
from mtl.aggregation.auto_lambda import AutoLambda
from mtl.aggregation.base import LEVELS, Aggregator, Combination, GramianWeighting, TaskGradients
from mtl.aggregation.cagrad import CAGrad
from mtl.aggregation.con_fig import ConFIG
from mtl.aggregation.constant import Constant
from mtl.aggregation.cr_mogm import CRMOGM
from mtl.aggregation.cross_gramian import CrossGramianWeighting
from mtl.aggregation.db_mtl import DBMTL
from mtl.aggregation.dualproj import DualProj
from mtl.aggregation.excess_mtl import ExcessMTL
from mtl.aggregation.fairgrad import FairGrad
from mtl.aggregation.from_torchjd import FromTorchJD
from mtl.aggregation.graddrop import GradDrop
from mtl.aggregation.gradnorm import GradNorm
from mtl.aggregation.gradvac import GradVac
from mtl.aggregation.imtl_g import IMTLG
from mtl.aggregation.meta import MetaWeighting
from mtl.aggregation.mgda import MGDA
from mtl.aggregation.moco import MoCo
from mtl.aggregation.modo import MoDo
from mtl.aggregation.moml import MOML
from mtl.aggregation.nash_mtl import NashMTL
from mtl.aggregation.pcgrad import PCGrad
from mtl.aggregation.random import Random
from mtl.aggregation.sdmgrad import SDMGrad
from mtl.aggregation.upgrad import UPGrad

__all__ = [
    "CRMOGM",
    "DBMTL",
    "IMTLG",
    "LEVELS",
    "MGDA",
    "MOML",
    "Aggregator",
    "AlignedMTL",
    "AutoLambda",
    "CAGrad",
    "Combination",
    "ConFIG",
    "Constant",
    "CrossGramianWeighting",
    "DualProj",
    "ExcessMTL",
    "FairGrad",
    "FromTorchJD",
    "GradDrop",
    "GradNorm",
    "GradVac",
    "GramianWeighting",
    "MetaWeighting",
    "MoCo",
    "MoDo",
    "NashMTL",
    "PCGrad",
    "Random",
    "SDMGrad",
    "TaskGradients",
    "UPGrad",
]
