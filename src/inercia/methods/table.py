"""Every method, a line each: what the package offers, and what the command line, the README and the tests go through.

A method is a file whose `__all__` names its factory and its state. The factories are not imported into the package
`methods` itself, so that `inercia.methods.adam` stays the module and `inercia.adam` is the function.
"""

from inercia.core.method import Factory
from inercia.methods.sgd import *
from inercia.methods.momentum import *
from inercia.methods.conformal import *
from inercia.methods.nesterov import *
from inercia.methods.rmsprop import *
from inercia.methods.scalar_rmsprop import *
from inercia.methods.adagrad import *
from inercia.methods.adadelta import *
from inercia.methods.adam import *
from inercia.methods.adamax import *
from inercia.methods.adamw import *
from inercia.methods.nadam import *
from inercia.methods.lion import *
from inercia.methods.muon import *

#: Every factory by name.
METHODS: dict[str, Factory] = {name: value for name, value in globals().items() if hasattr(value, "training_rate")}

__all__ = ["METHODS"]
__all__ += [name for name, value in globals().items() if getattr(value, "__module__", "").startswith(str(__package__))]
