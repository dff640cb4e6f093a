"""Names of submodules and whether they are free."""

from fx_core.errors import NameInUseError

from fx_linen.module._base import ModuleBase, where

__all__ = ["automatic_name", "claim_variable"]


def automatic_name(counters: dict[str, int], module: ModuleBase) -> str:
    """Returns the next of ``Dense_0``, ``Dense_1``, …

    Args:
      counters: how many modules of each class the parent has named.
      module: the module to be named.
    """
    kind = type(module).__name__
    count = counters.get(kind, 0)
    counters[kind] = count + 1
    return f"{kind}_{count}"


def claim_variable(module: ModuleBase, key_type: str, collection: str, name: str) -> None:
    """Checks that a variable's name is free and remember it as the module's.

    Raises:
      NameInUseError: there is a submodule, or a variable of the collection, with that name.
    """
    scope = module.scope
    assert scope is not None
    if scope.name_reserved(name, collection):
        raise NameInUseError(key_type, name, where(module))
    module._state.children[name] = collection
