"""inercia: JAX optimizers that know their own continuous-time limit."""

from importlib.metadata import version

from inercia.central import CentralState, central
from inercia.check import InerciaWarning
from inercia.compare import Gap, energy, gap
from inercia.convert import Momentum, convert
from inercia.curvature import CurvatureError, Spectrum, curvature, density, hvp, in_chunks, sharpness, trace
from inercia.data import Dataset, Split, digits, split, standardise, teacher
from inercia.edge import Edge, edge
from inercia.integrate import IntegrationError, integrate
from inercia.interpolate import Interpolated, interpolated
from inercia.iterate import iterate
from inercia.limit import Equation, limit
from inercia.method import Family, Method
from inercia.methods import (
    METHODS,
    SCHEMES,
    AdagradState,
    AdamState,
    LionState,
    MomentumState,
    NesterovState,
    OscillatorState,
    RmspropState,
    ScalarRmspropState,
    SgdState,
    SignState,
    adagrad,
    adam,
    adamw,
    lion,
    momentum,
    nadam,
    nesterov,
    oscillator,
    rmsprop,
    scalar_rmsprop,
    sgd,
    sign_sgd,
)
from inercia.modified import modified, modified_loss
from inercia.network import Layer, Network, backprop, mlp
from inercia.noise import Diffusion, diffuse
from inercia.order import Order, order
from inercia.path import Path, Solve
from inercia.precondition import preconditioner
from inercia.quadratic import exact_flow, exact_iterates, quadratic
from inercia.read import FileError, read, read_idx
from inercia.risk import Risk, accuracy, risk
from inercia.sampler import Sampler, sampler
from inercia.shards import Shards, shards
from inercia.smooth import kinks
from inercia.stability import Stability, best_heavy_ball, growth, stability
from inercia.threshold import Threshold, threshold
from inercia.train import History, Result, train

__version__ = version("inercia")

__all__ = [
    "METHODS",
    "SCHEMES",
    "AdagradState",
    "AdamState",
    "CentralState",
    "CurvatureError",
    "Dataset",
    "Diffusion",
    "Edge",
    "Equation",
    "Family",
    "FileError",
    "Gap",
    "History",
    "InerciaWarning",
    "IntegrationError",
    "Interpolated",
    "Layer",
    "LionState",
    "Method",
    "Momentum",
    "MomentumState",
    "NesterovState",
    "Network",
    "Order",
    "OscillatorState",
    "Path",
    "Result",
    "Risk",
    "RmspropState",
    "Sampler",
    "ScalarRmspropState",
    "SgdState",
    "Shards",
    "SignState",
    "Solve",
    "Spectrum",
    "Split",
    "Stability",
    "Threshold",
    "__version__",
    "accuracy",
    "adagrad",
    "adam",
    "adamw",
    "backprop",
    "best_heavy_ball",
    "central",
    "convert",
    "curvature",
    "density",
    "diffuse",
    "digits",
    "edge",
    "energy",
    "exact_flow",
    "exact_iterates",
    "gap",
    "growth",
    "hvp",
    "in_chunks",
    "integrate",
    "interpolated",
    "iterate",
    "kinks",
    "limit",
    "lion",
    "mlp",
    "modified",
    "modified_loss",
    "momentum",
    "nadam",
    "nesterov",
    "order",
    "oscillator",
    "preconditioner",
    "quadratic",
    "read",
    "read_idx",
    "risk",
    "rmsprop",
    "sampler",
    "scalar_rmsprop",
    "sgd",
    "shards",
    "sharpness",
    "sign_sgd",
    "split",
    "stability",
    "standardise",
    "teacher",
    "threshold",
    "trace",
    "train",
]
