"""Where a training lives on a mesh of devices.

    batches         cut over all devices of the mesh, along their rows
    params, state   whole on every device; or, sharded, every leaf cut over all devices along its longest dimension that
                    their number divides (a leaf without one stays whole)
    data, history   whole on every device

The mean over a batch is the mean over its parts, so that the training is the same one up to the order of sums. Meshes
with explicit axes are taken as well: the training itself runs with automatic ones, because a loss written for one
device says nothing about shardings.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec


class Placement(NamedTuple):
    """A mesh, and whether params and state are cut over it."""

    mesh: Mesh
    sharded: bool

    def whole(self, tree: Any) -> Any:
        """Return the sharding of a tree that every device holds."""
        return jax.tree.map(lambda _: NamedSharding(self.mesh, PartitionSpec()), tree)

    def carried(self, tree: Any) -> Any:
        """Return the shardings of params and state."""
        return jax.tree.map(lambda leaf: NamedSharding(self.mesh, self._cut(leaf.shape)), tree)

    def keep(self, tree: Any) -> Any:
        """Hold params and state in their shardings, inside a compiled function."""
        return jax.lax.with_sharding_constraint(tree, self.carried(tree))

    def batches(self) -> NamedSharding:
        """Return the sharding of stacked batches (iterations, rows, ...)."""
        return NamedSharding(self.mesh, PartitionSpec(None, self.mesh.axis_names))

    def put(self, tree: Any, shardings: Any) -> Any:
        """Put values that every process has on the devices of all of them; random keys as the numbers they hold."""

        def spread(leaf, sharding):
            if not self.mesh.is_multi_process:
                return jax.device_put(leaf, sharding)
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                whole = NamedSharding(self.mesh, PartitionSpec())
                return jax.random.wrap_key_data(spread(jax.random.key_data(leaf), whole))
            if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
                return jax.device_put(leaf, sharding)  # it is there already
            host = np.asarray(leaf)
            return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

        return jax.tree.map(spread, tree, shardings)

    def cut(self, batch: Any) -> Any:
        """Cut a batch along its rows, inside a compiled function."""
        rows = NamedSharding(self.mesh, PartitionSpec(self.mesh.axis_names))
        return jax.lax.with_sharding_constraint(batch, jax.tree.map(lambda _: rows, batch))

    def _cut(self, shape: tuple[int, ...]) -> PartitionSpec:
        divisible = [d for d, size in enumerate(shape) if size and size % self.mesh.size == 0]
        if not (self.sharded and divisible):
            return PartitionSpec()
        longest = max(divisible, key=lambda d: shape[d])
        return PartitionSpec(*[None] * longest, self.mesh.axis_names)


def place(mesh: Any, sharded: bool, batch_size: int | None) -> Placement:
    """Make a placement, or raise unless the mesh's devices divide the batch (None: its size is not known yet)."""
    if not isinstance(mesh, Mesh):
        raise TypeError(
            f"mesh must be a jax.sharding.Mesh, for example jax.make_mesh, but it is {type(mesh).__name__}."
        )
    if batch_size is not None and batch_size % mesh.size:
        raise ValueError(
            f"the number of devices must divide the batch size, but the mesh has {mesh.size} devices and batch_size "
            f"is {batch_size}."
        )
    if mesh.is_multi_process and len({device.process_index for device in mesh.devices.flat}) < jax.process_count():
        raise ValueError("a mesh of several processes must hold devices of all of them, but some have none in it.")
    return Placement(Mesh(mesh.devices, mesh.axis_names), sharded)
