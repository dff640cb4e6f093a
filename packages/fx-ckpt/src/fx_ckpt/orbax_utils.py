"""Arguments for Orbax, from a tree; needs the extra ``fx-ckpt[orbax]``."""

from typing import Any

import jax
import numpy as np

from fx_ckpt.formats.orbax_trees import orbax


def save_args_from_target(target: Any) -> Any:
    """Returns how Orbax is to save each leaf: in a file of its own, uncast.

    Raises:
      EntryLoadError: Orbax is not installed.
    """
    ocp = orbax()
    return jax.tree.map(lambda _: ocp.SaveArgs(), target)


def restore_args_from_target(target: Any, mesh: jax.sharding.Mesh | None = None) -> Any:
    """Returns how Orbax is to restore each leaf.

    Args:
      target: a tree of arrays; those on several devices come back with their shardings, others as NumPy arrays.
      mesh: put the sharded arrays onto this mesh instead of their own.

    Raises:
      EntryLoadError: Orbax is not installed.
    """
    ocp = orbax()

    def args(leaf: Any) -> Any:
        sharding = getattr(leaf, "sharding", None)
        if not isinstance(sharding, jax.sharding.NamedSharding) or len(sharding.device_set) == 1:
            return ocp.RestoreArgs(restore_type=np.ndarray)
        if mesh is not None:
            sharding = jax.sharding.NamedSharding(mesh, sharding.spec)
        return ocp.ArrayRestoreArgs(sharding=sharding)

    return jax.tree.map(args, target)
