"""Methods of public classes take the arguments that Flax's take, by name."""

import inspect
from types import ModuleType

import flax.linen
import flax.nnx
import fx_linen
import fx_nnx
import pytest

# Methods of other kinds of objects in fx: a mapping's, a field that holds a function, an initializer of JAX.
_NO_METHODS = {("StateAxes", "get"), ("StateAxes", "keys"), ("StateAxes", "values"), ("Bidirectional", "merge_fn")}
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@pytest.mark.parametrize(("theirs", "ours"), [(flax.linen, fx_linen), (flax.nnx, fx_nnx)], ids=["linen", "nnx"])
def test_methods_take_the_arguments_of_flax(theirs: ModuleType, ours: ModuleType):
    lacking: list[str] = []
    for name, cls in inspect.getmembers(theirs, inspect.isclass):
        for method, function in inspect.getmembers(cls, inspect.isfunction):
            if (method.startswith("_") and method != "__call__") or (name, method) in _NO_METHODS:
                continue
            parameters = [p.name for p in inspect.signature(function).parameters.values() if p.kind in _NAMED]
            taken = inspect.signature(getattr(getattr(ours, name), method)).parameters
            if method != "recurrent_kernel_init":
                lacking += [f"{name}.{method}({p})" for p in parameters if p != "self" and p not in taken]
    assert not lacking
