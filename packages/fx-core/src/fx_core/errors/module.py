"""Mistakes with modules: how their classes are written, and when they are called."""

from collections.abc import Mapping, Sequence
from typing import Any

from fx_core.errors._base import FxError


class ApplyModuleInvalidMethodError(FxError, TypeError):
    """``method`` of ``apply`` or ``init`` is not a method of the module.

    Wrong::

        model.apply(variables, x, method=jnp.sin)

    Right::

        model.apply(variables, x, method=Model.encode)
        model.apply(variables, x, method="encode")

    Args:
      method: what came.
    """

    def __init__(self, method: Any):
        super().__init__(
            "Only a method of the module can be applied.",
            expected="a method of the module's class, or its name",
            got=repr(method),
            fix="Pass method=Model.name or method='name'; for other functions see apply(fn, module).",
        )


class AssignSubModuleError(FxError):
    """A submodule was made where a module can have none: in a method that is neither ``setup`` nor compact.

    Wrong::

        class Net(nn.Module):
            def __call__(self, x):
                return nn.Dense(3)(x)

    Right::

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                return nn.Dense(3)(x)

    Args:
      cls: name of the submodule's class.
      path: path and class of the module that was to have it.
    """

    def __init__(self, cls: Any, path: str | None = None):
        name = cls.__name__ if isinstance(cls, type) else cls
        super().__init__(
            f"Submodule {name} was made outside of setup and of a compact method.",
            path=path,
            expected=f"{name} made in setup(), or in a method decorated with @compact",
            got="another method",
            fix="Decorate the method with @compact, or make the submodule in setup() and call it here.",
        )


class DescriptorAttributeError(FxError):
    """A descriptor on a module, such as a property, raised AttributeError, which Python would report as a missing name.

    Wrong::

        class Net(nn.Module):
            @property
            def width(self):
                return self.no_such_attribute

    Right::

        class Net(nn.Module):
            features: int

            @property
            def width(self):
                return self.features
    """

    def __init__(self):
        super().__init__(
            "A property or other descriptor of the module raised AttributeError.",
            expected="a descriptor that finds what it reads",
            fix="See the error above this one: it names the attribute that the descriptor did not find.",
        )


class IncorrectPostInitOverrideError(FxError):
    """A module has a ``__post_init__`` that does not call the one of its base class.

    Wrong::

        class Net(nn.Module):
            def __post_init__(self):
                self.width = 2 * self.features

    Right::

        class Net(nn.Module):
            def __post_init__(self):
                self.width = 2 * self.features
                super().__post_init__()
    """

    def __init__(self):
        super().__init__(
            "The module was not set up: its __post_init__ replaces that of Module.",
            expected="a call of super().__post_init__()",
            fix="Call super().__post_init__() at the end of __post_init__.",
        )


class InvalidInstanceModuleError(FxError, TypeError):
    """A method such as ``init`` or ``apply`` was called on a module's class.

    Wrong::

        nn.Dense.init(key, x)

    Right::

        nn.Dense(3).init(key, x)
    """

    def __init__(self):
        super().__init__(
            "init, init_with_output, apply and bind are called on instances.",
            expected="a module",
            got="a class, or something that is no module",
            fix="Make an instance first: Model(...).init(key, x).",
        )


class MultipleMethodsCompactError(FxError):
    """A module has two compact methods, whose automatic names would clash.

    Wrong::

        class Net(nn.Module):
            @nn.compact
            def encode(self, x): ...

            @nn.compact
            def decode(self, x): ...

    Right::

        class Net(nn.Module):
            def setup(self):
                self.encoder, self.decoder = Encoder(), Decoder()

            def encode(self, x):
                return self.encoder(x)

            def decode(self, x):
                return self.decoder(x)

    Args:
      methods: names of the methods.
      path: path and class of the module.
    """

    def __init__(self, methods: Sequence[str] = (), path: str | None = None):
        super().__init__(
            "A module has more than one compact method.",
            path=path,
            expected="at most one method with @compact",
            got=" and ".join(map(repr, methods)) or "several",
            fix="Make the submodules in setup(), or split the module.",
        )


class ReservedModuleAttributeError(FxError):
    """A module declares a field whose name modules need for themselves.

    Wrong::

        class Net(nn.Module):
            parent: int

    Right::

        class Net(nn.Module):
            parent_width: int

    Args:
      annotations: the fields that the class declares.
    """

    def __init__(self, annotations: Mapping[str, Any]):
        super().__init__(
            "The fields 'parent' and 'name' belong to Module.",
            expected="other names",
            got=", ".join(map(str, annotations)),
            fix="Rename the field.",
        )


def _on_one_line(value: Any) -> str:
    """The beginning of the value's text, without the lines after the first."""
    first, *rest = repr(value).split("\n")
    return f"{first:.80}" + ("...)" if rest and first.endswith("(") else "..." if rest else "")


class SetAttributeFrozenModuleError(FxError):
    """An attribute of a module was set outside of ``setup``.

    Wrong::

        class Net(nn.Module):
            @nn.compact
            def __call__(self, x):
                self.width = 3

    Right::

        class Net(nn.Module):
            def setup(self):
                self.width = 3

    Args:
      module_cls: name of the module's class.
      attr_name: the attribute.
      attr_val: the value that it should get.
      path: path and class of the module.
    """

    def __init__(self, module_cls: str, attr_name: str, attr_val: Any, path: str | None = None):
        super().__init__(
            f"Cannot set attribute {attr_name!r} of {module_cls}: modules are immutable outside of setup().",
            path=path,
            expected="attributes set in setup() or given to the constructor",
            got=f"{attr_name} = {_on_one_line(attr_val)}",
            fix="Set it in setup(), use a local variable, or keep state with self.variable(...). "
            "For a changed copy use module.clone(...).",
        )


class SetAttributeInModuleSetupError(FxError):
    """A field of a module, what its constructor takes, was changed in ``setup``.

    Wrong::

        class Net(nn.Module):
            width: int = 3

            def setup(self):
                self.width = 2 * self.width

    Right::

        class Net(nn.Module):
            width: int = 3

            def setup(self):
                self.inner_width = 2 * self.width

    Args:
      attr_name: the field.
      attr_val: the value that it should get.
      path: path and class of the module.
    """

    def __init__(self, attr_name: str | None = None, attr_val: Any = None, path: str | None = None):
        super().__init__(
            "A field of a module cannot be changed in setup().",
            path=path,
            expected="the value that the constructor was given",
            got=None if attr_name is None else f"{attr_name} = {attr_val!r:.80}",
            fix="Set an attribute with another name.",
        )


class TransformedMethodReturnValueError(FxError):
    """A method under a lifted transform gave a module or a bound variable, which cannot leave a transform.

    Wrong::

        @nn.jit
        def make(self):
            return nn.Dense(3)

    Right::

        @nn.jit
        def call(self, x):
            return nn.Dense(3)(x)

    Args:
      name: the method.
    """

    def __init__(self, name: str):
        super().__init__(
            f"The transformed method {name!r} returned modules or variables.",
            expected="arrays",
            got="modules or variables",
            fix="Return what the module computes, and make the module where it is used.",
        )


class TransformTargetError(FxError, TypeError):
    """A lifted transform was given something that is neither a module class nor a function of a module.

    Wrong::

        nn.vmap(nn.Dense(3), ...)

    Right::

        nn.vmap(nn.Dense, ...)(features=3)

    Args:
      target: what came.
    """

    def __init__(self, target: Any):
        super().__init__(
            "Transforms take classes of modules and functions of modules.",
            expected="a Module subclass, or a function whose first argument is a module",
            got=repr(target),
            fix="Transform the class and make an instance of the result, or write def fn(module, ...).",
        )
