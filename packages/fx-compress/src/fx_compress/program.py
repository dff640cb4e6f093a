"""A traced network as a list of steps, with what is known of each value before any input comes."""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import jax
import numpy as np
from fx_core.compat import jax as compat

from fx_compress.parameters import by_path, map_parameters, parameters

__all__ = ["Program", "Step", "pure", "trace"]


@dataclasses.dataclass(frozen=True, eq=False)
class Step:
    """One operation.

    Attributes:
      name: of its primitive, such as ``"dot_general"``.
      options: its static arguments.
      inputs: numbers of the values that it takes.
      outputs: numbers of the values that it gives.
      primitive: the primitive of JAX.
      where: the modules that it belongs to, as far as they name themselves.
    """

    name: str
    options: Mapping[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    primitive: Any
    where: str


class Program:
    """A network as steps between numbered values.

    Attributes:
      steps: in the order of execution; calls of functions are written out, loops and branches are single steps.
      shapes: of each value.
      weights: number of the value of each parameter, by path.
      inputs: numbers of the values that the network is given.
      outputs: numbers of the values that the network gives.
    """

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.shapes: list[tuple[int, ...]] = []
        self.weights: dict[str, int] = {}
        self.inputs: list[int] = []
        self.outputs: list[int] = []
        self._known: dict[int, Any] = {}
        self._sources: dict[int, frozenset[str]] = {}
        self._maker: dict[int, Step] = {}
        self._users: dict[int, list[Step]] = {}

    def maker(self, value: int) -> Step | None:
        """Returns the step that gives a value; None for inputs and parameters."""
        return self._maker.get(value)

    def users(self, value: int) -> list[Step]:
        """Returns the steps that take a value, each as often as it takes it."""
        return self._users.get(value, [])

    def uses(self, value: int) -> int:
        """Returns how often a value is used, as a result of the network too."""
        return len(self.users(value)) + self.outputs.count(value)

    def is_constant(self, value: int) -> bool:
        """Returns whether a value follows from the parameters alone."""
        return value in self._sources

    def sources(self, value: int) -> frozenset[str]:
        """Returns the paths of the parameters that a constant follows from."""
        return self._sources[value]

    def constant(self, value: int, weights: Mapping[str, Any]) -> np.ndarray:
        """Returns a constant as the given parameters make it."""
        return np.asarray(self._evaluate(value, weights, {}))

    def parameter_of(self, value: int) -> str | None:
        """Returns the path of the parameter that a value is, but for its dtype; None if it is none."""
        paths = {number: path for path, number in self.weights.items()}
        while value not in paths:
            step = self._maker.get(value)
            if step is None or step.name not in ("convert_element_type", "copy"):
                return None
            value = step.inputs[0]
        return paths[value]

    def _evaluate(self, value: int, weights: Mapping[str, Any], done: dict[int, Any]) -> Any:
        if value in done:
            return done[value]
        if value in self._known:
            known = self._known[value]
            return weights[known] if isinstance(known, str) else known
        step = self._maker[value]
        given = [self._evaluate(each, weights, done) for each in step.inputs]
        result = step.primitive.bind(*given, **step.options)
        done.update(zip(step.outputs, result if step.primitive.multiple_results else [result]))
        return done[value]

    def _add(self, shape: Sequence[int]) -> int:
        self.shapes.append(tuple(shape))
        return len(self.shapes) - 1

    def add_known(self, shape: Sequence[int], known: Any, sources: frozenset[str]) -> int:
        """Adds a value that is a parameter (a path) or a number, and return its number."""
        value = self._add(shape)
        self._known[value], self._sources[value] = known, sources
        return value

    def add_input(self, shape: Sequence[int]) -> int:
        """Adds a value that comes from outside, and return its number."""
        self.inputs.append(self._add(shape))
        return self.inputs[-1]

    def add_step(self, equation: Any, inputs: Sequence[int]) -> tuple[int, ...]:
        """Adds a step of an equation of JAX, and return the numbers of what it gives."""
        outputs = tuple(self._add(variable.aval.shape) for variable in equation.outvars)
        where = str(equation.source_info.name_stack)
        step = Step(equation.primitive.name, equation.params, tuple(inputs), outputs, equation.primitive, where)
        self.steps.append(step)
        for value in inputs:
            self._users.setdefault(value, []).append(step)
        pure = not equation.effects and all(value in self._sources for value in inputs)
        for value in outputs:
            self._maker[value] = step
            if pure:
                self._sources[value] = frozenset().union(*(self._sources[each] for each in inputs))
        return outputs


def trace(function: Callable[..., Any], model: Any, inputs: Sequence[Any]) -> Program:
    """Traces ``function(model, *inputs)`` to its steps.

    Float parameters are values of the program; integers, keys and array-like nodes of a model are numbers in it.

    >>> import jax.numpy as jnp
    >>> program = trace(lambda m, x: jax.nn.relu(x @ m["kernel"]), {"kernel": jnp.ones((2, 3))}, [jnp.ones((1, 2))])
    >>> [step.name for step in program.steps], program.parameter_of(program.steps[0].inputs[1])
    (['dot_general', 'max'], 'kernel')
    """
    run, floats = pure(function, model)
    # What nobody needs would count as a use.
    closed = compat.live_jaxpr(jax.make_jaxpr(run)(floats, tuple(inputs)))
    program, given = Program(), jax.tree.leaves((floats, tuple(inputs)))
    names: Iterator[str] = iter(sorted(floats))
    numbers = []
    for value in given[: len(floats)]:
        path = next(names)
        program.weights[path] = program.add_known(np.shape(value), path, frozenset({path}))
        numbers.append(program.weights[path])
    numbers += [program.add_input(np.shape(value)) for value in given[len(floats) :]]
    program.outputs = _write_out(program, closed, numbers)
    return program


def pure(function: Callable[..., Any], model: Any) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Returns ``function`` as one of the float parameters by path and of the inputs, and these parameters."""
    # A copy: fx-nnx warns where variables change that a traced function has read.
    model = map_parameters(lambda parameter: parameter.value, model)

    def run(weights: dict[str, Any], inputs: Sequence[Any]) -> Any:
        return function(map_parameters(lambda p: weights.get(p.path, p.value), model), *inputs)

    floats = by_path(p for p in parameters(model) if _is_float(p.value))
    return run, {path: parameter.value for path, parameter in floats.items()}


def _is_float(value: Any) -> bool:
    return isinstance(value, jax.Array | np.ndarray) and jax.numpy.issubdtype(value.dtype, jax.numpy.floating)


# Calls of functions, and the option that holds the function.
_CALLS = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_vjp_call_jaxpr": "fun_jaxpr",
    "checkpoint": "jaxpr",
    "remat2": "jaxpr",
}


def _write_out(program: Program, closed: Any, given: Sequence[int]) -> list[int]:
    """Add the steps of a jaxpr, which may be closed or not, and return the numbers of its results."""
    jaxpr = getattr(closed, "jaxpr", closed)
    consts = [program.add_known(np.shape(c), c, frozenset()) for c in getattr(closed, "consts", ())]
    known: dict[Any, int] = dict(zip(jaxpr.constvars, consts)) | dict(zip(jaxpr.invars, given))

    def number(atom: Any) -> int:
        if hasattr(atom, "val"):
            return program.add_known(np.shape(atom.val), np.asarray(atom.val, atom.aval.dtype), frozenset())
        return known[atom]

    for equation in jaxpr.eqns:
        inputs = [number(atom) for atom in equation.invars]
        inner = equation.params.get(_CALLS.get(equation.primitive.name, ""))
        outputs = program.add_step(equation, inputs) if inner is None else _write_out(program, inner, inputs)
        known.update(zip(equation.outvars, outputs))
    return [number(atom) for atom in jaxpr.outvars]
