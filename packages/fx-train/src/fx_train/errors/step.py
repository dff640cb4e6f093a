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
    """An option of ``make_train_step`` makes no sense."""

    def __init__(self, option: str, expected: str, got: object):
        super().__init__(f"make_train_step cannot work with this {option}.", expected=expected, got=str(got))


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
