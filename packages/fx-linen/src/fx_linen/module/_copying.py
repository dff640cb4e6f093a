"""Copies of modules with some fields changed."""

from typing import Any, Self

from fx_linen.module._base import UNSPECIFIED, ModuleBase, raw_parent
from fx_linen.module._tree import ATOMS, map_modules

__all__ = ["Copying"]

Copies = dict[int, tuple[Any, Any]]


class Copying(ModuleBase):
    """Cloning a module; clones are unbound unless they get a parent."""

    def clone(
        self,
        *,
        parent: Any = None,
        _deep_clone: bool | Copies = False,
        _reset_names: bool = False,
        **updates: Any,
    ) -> Self:
        """Creates a copy with some fields replaced.

        Args:
          parent: the copy's parent: a module, a `fx_core.Scope` to bind it to, or None for an unbound copy.
          _deep_clone: clone the modules in the fields, too, each one once; a dict remembers them between calls.
          _reset_names: those clones forget their names.
          **updates: fields with new values, ``name`` included.

        Returns:
          A new module of the same class, without the variables of this one.

        >>> import fx_linen as nn
        >>> class Scale(nn.Module):
        ...     by: float
        >>> Scale(2.0).clone(by=3.0)
        Scale(
            # attributes
            by = 3.0
        )
        """
        attributes = self.__dict__
        values = {field: attributes[field] for field in type(self)._info.fields if field in attributes}
        values["name"] = self.name
        values.update(updates)
        if _deep_clone is not False:
            copies: Copies = {} if _deep_clone is True else _deep_clone
            values = _clone_inside(values, copies, _reset_names)
        return type(self)(parent=parent, **values)  # type: ignore[call-arg]

    def copy(self, *, parent: Any = UNSPECIFIED, name: str | None = None, **updates: Any) -> Self:
        """Creates a copy that belongs to the running module, under a new name.

        Args:
          parent: the copy's parent; the running module by default.
          name: the copy's name; chosen by the parent if None.
          **updates: fields with new values.
        """
        return self.clone(parent=parent, name=name, _deep_clone=True, _reset_names=False, **updates)


def _clone_inside(values: dict[str, Any], copies: Copies, reset_names: bool) -> dict[str, Any]:
    def visit(_: str, module: Any) -> Any:
        known = copies.get(id(module))
        if known is None:
            names = {"name": None} if reset_names and raw_parent(module) is not None else {}
            clone = module.clone(_deep_clone=copies, _reset_names=reset_names, **names)
            known = copies[id(module)] = (module, clone)
        return known[1]

    return {key: value if type(value) in ATOMS else map_modules(value, visit) for key, value in values.items()}
