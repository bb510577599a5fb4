"""A pytest plugin: runs optax's own tests of its optimizers with inercia's factories in their place."""

import optax._src.alias

from inercia import METHODS

SWAPPED = [name for name in METHODS if hasattr(optax._src.alias, name)]
for _name in SWAPPED:
    setattr(optax._src.alias, _name, METHODS[_name])


def pytest_collection_modifyitems(config, items):
    def of_ours(item):
        parameters = getattr(getattr(item, "obj", None), "__x_params_repr__", "")
        ours = [*SWAPPED, "sgd_mom"]
        return any(f"opt_name='{name}'" in parameters or f"'opt_name': '{name}'" in parameters for name in ours)

    dropped = [item for item in items if not of_ours(item)]
    items[:] = [item for item in items if of_ours(item)]
    config.hook.pytest_deselected(items=dropped)
