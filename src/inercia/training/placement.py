"""Where a training lives on a mesh of devices.

    batches         sharded over all devices of the mesh, along their rows
    params, state   as the params came, where they are sharded over this mesh already; else replicated; or, if asked
                    for, every leaf sharded over all devices along its longest dimension that their number divides (a
                    leaf without one is replicated)
    data, history   replicated

The mean over a batch is the mean over its parts, so that the training is the same one up to the order of sums. Meshes
with explicit axes are taken as well: the training itself runs with automatic ones, because a loss written for one
device says nothing about shardings.
"""

import contextlib
from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from inercia.core import check
from inercia.training import own_copies


class Placement(NamedTuple):
    """A mesh, and how params and what is shaped like them lie on it."""

    mesh: Mesh
    sharded: bool
    structure: Any  # of the params
    given: tuple[tuple[tuple[int, ...], PartitionSpec] | None, ...]  # of each leaf of the params that came sharded

    def replicated(self, tree: Any) -> Any:
        """Return the shardings of a tree that every device holds."""
        return jax.tree.map(lambda _: NamedSharding(self.mesh, PartitionSpec()), tree)

    def of_carry(self, tree: Any) -> Any:
        """Return the shardings of params and state; trees like the params, such as moments, lie as the params do."""

        def like_params(node):
            return any(self.given) and jax.tree.structure(node) == self.structure

        def place(node):
            leaves, structure = jax.tree.flatten(node)
            given = self.given if like_params(node) else [None] * len(leaves)
            specs = [
                came[1] if came and came[0] == leaf.shape else self._spec(leaf.shape)
                for leaf, came in zip(leaves, given, strict=True)
            ]
            return jax.tree.unflatten(structure, [NamedSharding(self.mesh, spec) for spec in specs])

        return jax.tree.map(place, tree, is_leaf=like_params)

    def constrain(self, tree: Any) -> Any:
        """Keep params and state in their shardings, inside a compiled function."""
        return jax.lax.with_sharding_constraint(tree, self.of_carry(tree))

    def batches(self) -> NamedSharding:
        """Return the sharding of stacked batches (iterations, rows, ...)."""
        return NamedSharding(self.mesh, PartitionSpec(None, self.mesh.axis_names))

    def put(self, tree: Any, shardings: Any) -> Any:
        """Put values that every process has on the devices of all of them; random keys as the numbers they hold."""
        everywhere = NamedSharding(self.mesh, PartitionSpec())

        def spread(leaf, sharding):
            if not check.is_concrete(leaf):  # mapped by vmap it has an axis more than its sharding; `constrain` has not
                return jax.device_put(leaf, everywhere)
            if not self.mesh.is_multi_process:
                return jax.device_put(leaf, sharding)
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
                return jax.random.wrap_key_data(spread(jax.random.key_data(leaf), everywhere))
            if isinstance(leaf, jax.Array) and not leaf.is_fully_addressable:
                return jax.device_put(leaf, sharding)  # it is there already
            host = np.asarray(leaf)
            return jax.make_array_from_callback(host.shape, sharding, lambda index: host[index])

        return jax.tree.map(spread, tree, shardings)

    def shard_batch(self, batch: Any) -> Any:
        """Shard a batch along its rows, inside a compiled function."""
        rows = NamedSharding(self.mesh, PartitionSpec(self.mesh.axis_names))
        return jax.lax.with_sharding_constraint(batch, jax.tree.map(lambda _: rows, batch))

    def _spec(self, shape: tuple[int, ...]) -> PartitionSpec:
        divisible = [d for d, size in enumerate(shape) if size and size % self.mesh.size == 0]
        if not (self.sharded and divisible):
            return PartitionSpec()
        longest = max(divisible, key=lambda d: shape[d])
        return PartitionSpec(*[None] * longest, self.mesh.axis_names)


def place(mesh: Any, sharded: bool, batch_size: int | None, params: Any) -> Placement | None:
    """Make a placement, or raise unless the mesh's devices divide the batch (None: its size is not fixed yet)."""
    if mesh is None:
        if sharded:
            raise ValueError("shard_params needs devices to shard over: pass mesh too.")
        return None
    if not isinstance(mesh, Mesh):
        raise TypeError(
            f"mesh must be a jax.sharding.Mesh, for example jax.make_mesh, but it is {type(mesh).__name__}."
        )
    if over := own_copies.axes():
        raise ValueError(
            f"inside jax.shard_map train takes no mesh, because each device makes trainings of its own there, over "
            f"{', '.join(map(repr, over))}: leave mesh out, or leave shard_map."
        )
    if batch_size is not None and batch_size % mesh.size:
        raise ValueError(
            f"the number of devices must divide the batch size, but the mesh has {mesh.size} devices and batch_size "
            f"is {batch_size}."
        )
    if mesh.is_multi_process and len({device.process_index for device in mesh.devices.flat}) < jax.process_count():
        raise ValueError("a mesh of several processes must hold devices of all of them, but some have none in it.")
    given = tuple(_given(leaf, mesh) for leaf in jax.tree.leaves(params))
    return Placement(Mesh(mesh.devices, mesh.axis_names), sharded, jax.tree.structure(params), given)


@contextlib.contextmanager
def automatic_axes() -> Iterator[None]:
    """Turn JAX's error of an operation that explicit axes do not tell the sharding of into one sentence."""
    try:
        yield
    except Exception as error:
        if type(error).__name__ != "ShardingTypeError":  # which JAX does not export
            raise
        raise TypeError(
            "train needs arrays on automatic axes, but some lie on explicit ones, as jax.make_mesh makes them: make "
            "the mesh with axis_types=(jax.sharding.AxisType.Auto,) for each axis, or call train inside jax.shard_map."
        ) from error


def _given(leaf: Any, mesh: Mesh) -> tuple[tuple[int, ...], PartitionSpec] | None:
    """Return shape and spec of a leaf that came sharded over the mesh; None where it may be placed anew."""
    if not isinstance(leaf, jax.Array) or not check.is_concrete(leaf) or leaf.sharding.is_fully_replicated:
        return None
    sharding: Any = leaf.sharding
    own, theirs = Mesh(mesh.devices, mesh.axis_names), getattr(sharding, "mesh", None)
    if theirs is not None and Mesh(theirs.devices, theirs.axis_names) == own:
        return leaf.shape, sharding.spec
    raise ValueError(
        f"params that come sharded must lie on the mesh that train gets, but they lie as {sharding}: pass their mesh, "
        "or take them off their devices by jax.device_get(params)."
    )
