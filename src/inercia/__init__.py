"""inercia: JAX optimizers that know their own continuous-time limit."""

from importlib.metadata import version

from inercia.comparison.central_certificate import CentralOrder, central_order
from inercia.comparison.conventions import Momentum, convert
from inercia.comparison.convergence_order import Order, order
from inercia.comparison.edge_run import Edge, edge
from inercia.comparison.flow_regime import Regime, regime
from inercia.comparison.gap_and_energy import Gap, energy, gap, lyapunov
from inercia.comparison.symplectic_energy import Balance, modified_energy
from inercia.core.check import InerciaWarning
from inercia.core.convolutions import fast_convolutions
from inercia.core.method import Factory, Family, Method, factory
from inercia.core.path import Path, Solve
from inercia.core.precision import in_float32
from inercia.core.restriction import restricted
from inercia.edge_of_stability.advice import Advice, advise
from inercia.edge_of_stability.central_flow import CentralState, central
from inercia.edge_of_stability.directional_sharpness import batch_sharpness, critical_sharpness
from inercia.edge_of_stability.eigenpairs import CurvatureError, Spectrum, curvature
from inercia.edge_of_stability.hessian import hvp, in_chunks
from inercia.edge_of_stability.linear_stability import Stability, best_heavy_ball, growth, stability
from inercia.edge_of_stability.output_curvature import GaussNewton, empirical_fisher, gauss_newton
from inercia.edge_of_stability.preconditioning import preconditioner
from inercia.edge_of_stability.sharpness_observer import sharpness
from inercia.edge_of_stability.spectral_density import density, trace
from inercia.edge_of_stability.stability_threshold import Threshold, threshold
from inercia.explorer.notebook import explore
from inercia.flows.exact_quadratic import exact_flow, exact_iterates, quadratic
from inercia.flows.high_resolution_equation import high_resolution
from inercia.flows.integration import IntegrationError, integrate
from inercia.flows.interpolating_flow import Interpolated, interpolated
from inercia.flows.iteration import iterate
from inercia.flows.memoryless_flow import Equation, limit
from inercia.flows.modified_equation import modified, modified_loss
from inercia.flows.oscillation import OscillationState, edge_flow, rod
from inercia.flows.phase_portrait import Portrait, portrait
from inercia.flows.sde import Diffusion, diffuse
from inercia.flows.sliding_modes import Sliding, sliding
from inercia.flows.smoothness import nonsmooth_operations
from inercia.methods import parts as parts
from inercia.methods import table as _table
from inercia.methods.chains import chain, masked, partition
from inercia.methods.momentum import SCHEMES
from inercia.methods.scaling_rule import scale
from inercia.methods.table import *
from inercia.problems.amplified_noise import svag
from inercia.problems.data import Dataset, Split, digits, split, standardise, teacher
from inercia.problems.empirical_risk import Risk, accuracy, risk
from inercia.problems.files import read, read_idx
from inercia.problems.mapped_files import Shards, shards
from inercia.problems.model_file import Model, load
from inercia.problems.network import Layer, Network, backprop, mlp
from inercia.problems.sampling import Sampler, sampler
from inercia.problems.table import FileError, Table
from inercia.problems.table_files import read_table
from inercia.training import hosts as hosts
from inercia.training.loop import Result, train
from inercia.training.minibatch_path import iterate_batches
from inercia.training.programs import History
from inercia.training.records import Record

__version__ = version("inercia")

__all__ = [
    "SCHEMES",
    "Advice",
    "Balance",
    "CentralOrder",
    "CentralState",
    "CurvatureError",
    "Dataset",
    "Diffusion",
    "Edge",
    "Equation",
    "Factory",
    "Family",
    "FileError",
    "Gap",
    "GaussNewton",
    "History",
    "InerciaWarning",
    "IntegrationError",
    "Interpolated",
    "Layer",
    "Method",
    "Model",
    "Momentum",
    "Network",
    "Order",
    "OscillationState",
    "Path",
    "Portrait",
    "Record",
    "Regime",
    "Result",
    "Risk",
    "Sampler",
    "Shards",
    "Sliding",
    "Solve",
    "Spectrum",
    "Split",
    "Stability",
    "Table",
    "Threshold",
    "__version__",
    "accuracy",
    "advise",
    "backprop",
    "batch_sharpness",
    "best_heavy_ball",
    "central",
    "central_order",
    "chain",
    "convert",
    "critical_sharpness",
    "curvature",
    "density",
    "diffuse",
    "digits",
    "edge",
    "edge_flow",
    "empirical_fisher",
    "energy",
    "exact_flow",
    "exact_iterates",
    "explore",
    "factory",
    "fast_convolutions",
    "gap",
    "gauss_newton",
    "growth",
    "high_resolution",
    "hvp",
    "in_chunks",
    "in_float32",
    "integrate",
    "interpolated",
    "iterate",
    "iterate_batches",
    "limit",
    "load",
    "lyapunov",
    "masked",
    "mlp",
    "modified",
    "modified_energy",
    "modified_loss",
    "nonsmooth_operations",
    "order",
    "partition",
    "portrait",
    "preconditioner",
    "quadratic",
    "read",
    "read_idx",
    "read_table",
    "regime",
    "restricted",
    "risk",
    "rod",
    "sampler",
    "scale",
    "shards",
    "sharpness",
    "sliding",
    "split",
    "stability",
    "standardise",
    "svag",
    "teacher",
    "threshold",
    "trace",
    "train",
]
__all__ += _table.__all__
