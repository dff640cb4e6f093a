"""Errors of recurrent networks: carries, sequences and cells that do not fit."""

from fx_core.errors.kinds import UnsupportedOperationError


def cell_interface(cell: str, missing: str | None) -> UnsupportedOperationError:
    """A module is used as a recurrent cell and lacks a part of a cell."""
    fix = f"define {missing} in {cell}, or use one of the cells that are there"
    return UnsupportedOperationError(
        f"{cell} cannot be used as a recurrent cell.",
        expected="__call__(carry, inputs), initialize_carry(rng, input_shape), num_feature_axes",
        got=f"no {missing}" if missing else "the class",
        fix=fix if missing else f"make a cell of it: {cell}(...)",
    )
