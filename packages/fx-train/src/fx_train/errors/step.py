"""Errors of states and training steps."""

from fx_core.errors import FxError


class PolicyMismatchError(FxError):
    """Parameters are stored in another dtype than the policy of the step says.

    ::

      policy = Policy(params="float32", compute="bfloat16")
      StepState.create(params=bfloat16_params, tx=tx)
      StepState.create(params=policy.to_params(bfloat16_params), tx=tx)
    """

    def __init__(self, path: str, expected: object, got: object):
        super().__init__(
            "A parameter has another dtype than the policy stores.",
            path=path,
            expected=expected,
            got=got,
            fix="Make the state with policy.to_params(params), or change the policy's params.",
        )


class InvalidMaskError(FxError):
    """A mask of trainable parameters does not fit them."""

    def __init__(self, what: str, expected: object, got: object):
        super().__init__(
            what,
            expected=expected,
            got=got,
            fix="Give a tree of booleans like the parameters (or of its subtrees), or a function of path and array.",
        )


class InvalidStepOptionError(FxError):
    """An option of ``make_train_step``, or of a state, makes no sense.

    ::

      TrainState.create(apply_fn=model.apply, params=params, tx=optax.adam)         # the function that makes one
      TrainState.create(apply_fn=model.apply, params=params, tx=optax.adam(1e-3))

      make_train_step(loss_fn, accumulate=4)                      # a mean over what?
      make_train_step(loss_fn, accumulate=4, weight="examples")
      make_train_step(loss_fn, accumulate=4, weight=lambda batch: jnp.sum(batch["mask"]))
    """

    def __init__(
        self, option: str, expected: str, got: object, *, fix: str | None = None, where: str = "make_train_step"
    ):
        super().__init__(f"{where} cannot work with this {option}.", expected=expected, got=str(got), fix=fix)


class LossOutputError(FxError):
    """A loss function gave something else than a training step needs.

    ::

      return (logits - y) ** 2                      # an array: which number should fall?
      return jnp.mean((logits - y) ** 2)
      return loss, updates                          # a function with a parameter `variables` gives three things
      return loss, {"accuracy": accuracy}, updates
    """

    def __init__(self, expected: str, got: str):
        super().__init__("The loss function gave an unexpected result.", expected=expected, got=got)


class MissingFieldError(FxError):
    """The training step needs something that its state does not have.

    ::

      StepState.create(params=params, tx=tx)                            # loss_fn(params, batch, key) finds no key
      StepState.create(params=params, tx=tx, key=jax.random.key(0))
    """

    def __init__(self, state: str, field: str):
        super().__init__(
            f"The state has no {field}.",
            expected=f"a {state} with a value in its field {field!r}",
            fix=f"Give {field}= to StepState.create.",
        )


class NotAStateError(FxError):
    """A training step got something else than a state.

    ::

      train_step(params, batch)
      train_step(batch, state)
      train_step(StepState.create(params=params, tx=tx), batch)
    """

    def __init__(self, got: str):
        super().__init__(
            "A training step updates a state by a batch.",
            expected="train_step(state, batch) with a StepState, or another TrainState",
            got=f"a {got} as state",
            fix="Make one: StepState.create(params=params, tx=tx).",
        )


class DonatedStateError(FxError):
    """The memory of a state was given to its successor; it can be used once.

    ::

      new, metrics = train_step(state, batch)
      other, metrics = train_step(state, batch)                           # its arrays are gone
      train_step = make_train_step(loss_fn, donate=False)                 # keeps both
    """

    def __init__(self, path: str):
        super().__init__(
            "The state was used up by an earlier step.",
            path=path,
            expected="the state that the last step gave",
            got="one whose memory that step took (donation)",
            fix="Go on with the new state: state, metrics = train_step(state, batch). To keep the old one, copy it "
            "first or pass donate=False to make_train_step.",
        )


class GradientMismatchError(FxError):
    """Gradients are a tree of another structure than the parameters."""

    def __init__(self, missing: list[str], unknown: list[str], params: object, grads: object):
        names = missing or unknown
        super().__init__(
            "The gradients do not fit the parameters.",
            path=", ".join(names) or None,
            expected=f"gradients for {', '.join(missing)}" if missing else f"a tree like the parameters, {params}",
            got=f"none for them, but some for {', '.join(unknown)}" if missing and unknown else grads,
            fix="Differentiate with respect to state.params.",
        )


class VariablesMismatchError(FxError):
    """A loss function gave other variables than those it got.

    ::

      return loss, metrics, {"batch_stats": {}}              # the arrays of batch_stats are missing
      return loss, metrics, updates                          # what model.apply(..., mutable=["batch_stats"]) gave
    """

    def __init__(self, expected: dict[str, tuple[int, ...]], got: dict[str, tuple[int, ...]]):
        differ = sorted({*expected.items()} ^ {*got.items()})
        names = list(dict.fromkeys(name for name, _ in differ))
        super().__init__(
            "The loss function's new variables do not fit the old ones.",
            path=", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "") if names else None,
            expected=", ".join(f"{n} {expected[n]}" if n in expected else f"no {n}" for n in names[:5]),
            got=", ".join(f"{n} {got[n]}" if n in got else f"no {n}" for n in names[:5]),
            fix="Give the collections with all their arrays, or leave out those that do not change.",
        )


class NotTrainableError(FxError):
    """A parameter of whole numbers cannot be trained.

    ::

      make_train_step(loss_fn)                                                       # params have a counter
      make_train_step(loss_fn, trainable=lambda path, _: path[-1] != "count")
    """

    def __init__(self, path: str, dtype: object):
        super().__init__(
            "A parameter has no gradient.",
            path=path,
            expected="numbers of floating point",
            got=str(dtype),
            fix="Keep it in the state's variables, or leave it out: trainable= of make_train_step does, and so do "
            "gradients of jax.dtypes.float0, which jax.grad gives with allow_int=True.",
        )


class OptimizerArgumentError(FxError):
    """An optimizer wants to be told more than gradients.

    ::

      TrainState.create(..., tx=optax.lbfgs()).apply_gradients(grads=grads)       # it searches along a line of losses
      make_train_step(loss_fn)(StepState.create(params=params, tx=optax.lbfgs()), batch)
    """

    def __init__(self, names: str):
        super().__init__(
            "The optimizer wants to know more than gradients.",
            expected=f"a call of its update with {names.strip(' s:')}",
            got="gradients, its state and the parameters",
            fix="Use fx_train.step.make_train_step, which tells value, grad, value_fn, obj_fn and grad_fn; or call "
            "state.tx.update(grads, state.opt_state, state.params, ...) yourself, and state.replace.",
        )


class GradientShapeError(FxError):
    """Gradients have other shapes than their parameters; broadcasting would train something else.

    ::

      state.apply_gradients(grads=per_example_grads)                                    # (32, 3, 2) for (3, 2)
      state.apply_gradients(grads=jax.tree.map(lambda g: g.mean(axis=0), per_example_grads))
    """

    def __init__(self, differ: list[tuple[str, tuple[int, ...], tuple[int, ...]]]):
        super().__init__(
            "The gradients have other shapes than the parameters.",
            path=", ".join(path for path, _, _ in differ),
            expected=", ".join(str(shape) for _, shape, _ in differ),
            got=", ".join(str(shape) for _, _, shape in differ),
        )
