"""What matched in a conversion, and what did not."""

import dataclasses

from fx_nnx.errors import VariableConversionError

from fx_bridge.trees import CollectionPath, text

__all__ = ["ConversionReport"]


@dataclasses.dataclass(frozen=True)
class ConversionReport:
    """What matched in a conversion, and what did not. A place is a collection and a path.

    Attributes:
      matched: places that have a value.
      missing: places of the model that the source has no value for.
      unexpected: places of the source that the model has not.
      shapes: places where the shapes differ, with the wanted shape and that of the source.

    >>> import jax.numpy as jnp
    >>> import fx_bridge
    >>> import fx_nnx as nnx
    >>> variables = {"params": {"bias": jnp.zeros(2), "extra": jnp.zeros(2)}}
    >>> model = nnx.Dict(bias=nnx.Param(jnp.zeros(2)), kernel=nnx.Param(jnp.zeros((3, 2))))
    >>> state, report = fx_bridge.to_nnx_state(variables, like=model, strict=False)
    >>> report.complete, report.missing, report.unexpected
    (False, (('params', ('kernel',)),), (('params', ('extra',)),))
    """

    matched: tuple[CollectionPath, ...] = ()
    missing: tuple[CollectionPath, ...] = ()
    unexpected: tuple[CollectionPath, ...] = ()
    shapes: tuple[tuple[CollectionPath, tuple[int, ...], tuple[int, ...]], ...] = ()

    @property
    def complete(self) -> bool:
        """Whether everything matched."""
        return not (self.missing or self.unexpected or self.shapes)

    def check(self) -> None:
        """Makes sure that everything matched.

        Raises:
          VariableConversionError: something did not.
        """
        if not self.complete:
            raise VariableConversionError(str(self))

    def __str__(self) -> str:
        lines = [f"{len(self.matched)} matched"]
        lines += [f"missing: {text(place)}" for place in self.missing]
        lines += [f"unexpected: {text(place)}" for place in self.unexpected]
        lines += [f"shape of {text(place)}: wanted {want}, got {got}" for place, want, got in self.shapes]
        return "\n    ".join(lines)
