"""NNX modules without what only training needs, for whoever makes inference views."""

from typing import Any

import jax
import jax.numpy as jnp
from fx_core.array_node import ArrayNode

from fx_nnx.filters import All, Not
from fx_nnx.graph.children import children_of
from fx_nnx.graph.functions import clone
from fx_nnx.graph.iterate import pop
from fx_nnx.layers.attention import MultiHeadAttention
from fx_nnx.layers.batch_norm import BatchNorm
from fx_nnx.layers.conv import Conv, ConvTranspose
from fx_nnx.layers.embed import Embed
from fx_nnx.layers.linear import Einsum, Linear, LinearGeneral
from fx_nnx.layers.lora import LoRA, LoRALinear
from fx_nnx.layers.params import value_of
from fx_nnx.modules.module import Module, iter_modules
from fx_nnx.objects.pytree import Pytree, attributes_of
from fx_nnx.rngs import Rngs, RngStream
from fx_nnx.states.pure import to_flat_state
from fx_nnx.training.optimizer import Optimizer
from fx_nnx.variables.kinds import Intermediate, Observer, Perturbation

__all__ = ["for_inference", "resize"]


def for_inference(model: Module, variables: None = None) -> tuple[Module, None, list[tuple[str, str]]]:
    """Returns a copy of a module in evaluation mode, without streams, optimizers and intermediates, with adapters
    merged.

    Args:
      model: the module; it stays as it is.
      variables: None; see `fx_core.plugins.ModelEntry`.

    Returns:
      The copy, None, and what was done: pairs of a path and a text.

    >>> import fx_nnx as nnx
    >>> made, _, did = for_inference(nnx.Dropout(0.5, rngs=nnx.Rngs(0)))
    >>> made.deterministic, made.rngs, did
    (True, None, [('', 'evaluation mode'), ('rngs', 'removed RNG streams')])
    """
    made = clone(model)
    did = [("", "evaluation mode")]
    made.eval()
    # Perturbations are read by the layers that have them.
    removed = pop(made, (All(Intermediate, Not(Perturbation)), Observer))
    did += [(_text(path), f"removed {type(variable).__name__}") for path, variable in to_flat_state(removed)]
    for path, module in list(iter_modules(made, graph=True)):
        for name, value in list(attributes_of(module).items()):
            for kinds, what in (((Rngs, RngStream), "RNG streams"), ((Optimizer,), "an optimizer")):
                if isinstance(value, kinds):
                    setattr(module, name, None)
                    did.append((_text((*path, name)), f"removed {what}"))
    return _with_adapters_merged(made, did), None, did


def resize(model: Module) -> None:
    """Lets the layers of a model take their numbers of features and heads from their parameters, which became smaller.

    >>> import fx_nnx as nnx, jax.numpy as jnp
    >>> layer = nnx.Linear(3, 4, rngs=nnx.Rngs(0))
    >>> layer.kernel.set_value(jnp.ones((3, 2)))
    >>> resize(layer)
    >>> layer.out_features
    2
    """
    for _, module in iter_modules(model, graph=True):
        for name, size in _sizes(module).items():
            if getattr(module, name) != size:
                setattr(module, name, size)


def _sizes(module: Any) -> dict[str, Any]:
    if isinstance(module, Linear):
        return dict(zip(("in_features", "out_features"), value_of(module.kernel).shape[-2:]))
    if isinstance(module, LinearGeneral):
        shape, outs = value_of(module.kernel).shape, len(module.out_features)
        return {"out_features": shape[-outs:], "in_features": shape[len(module.batch_axis) : -outs]}
    if isinstance(module, Conv | ConvTranspose):
        kernel = value_of(module.kernel).shape
        into, out = (-1, -2) if getattr(module, "transpose_kernel", False) else (-2, -1)
        sizes = {"kernel_shape": kernel, "out_features": kernel[out]}
        groups = getattr(module, "feature_group_count", 1)
        if groups > 1 and kernel[into] == 1:  # a group for each feature, so that as many groups are left
            groups = sizes["feature_group_count"] = kernel[out] * groups // module.out_features
        return {**sizes, "in_features": kernel[into] * groups}
    if isinstance(module, Einsum):
        return {"kernel_shape": value_of(module.kernel).shape}
    if isinstance(module, BatchNorm):
        return {"num_features": value_of(module.mean).shape[0]}
    if isinstance(module, Embed):
        return dict(zip(("num_embeddings", "features"), value_of(module.embedding).shape))
    if isinstance(module, MultiHeadAttention):
        heads, depth = value_of(module.query.kernel).shape[-2:]
        kv = value_of(module.key.kernel).shape[-2]
        return {"num_heads": heads, "num_kv_heads": kv, "head_dim": depth, "qkv_features": heads * depth}
    return {}


def _with_adapters_merged(model: Module, did: list[tuple[str, str]]) -> Module:
    merged: dict[int, Module] = {}
    for path, module in iter_modules(model, graph=True):
        if type(module) not in (LoRA, LoRALinear) or (path and path[-1] == "lora"):
            continue
        reason = _why_not(module)
        if reason:
            did.append((_text(path), f"adapter not merged: {reason}"))
        else:
            merged[id(module)] = _merged(module)
            did.append((_text(path), "merged the adapter"))
    if id(model) in merged:
        return merged[id(model)]
    for _, module in list(iter_modules(model, graph=True)):
        for key, child in list(children_of(module)):
            if id(child) in merged:
                _put(module, key, merged[id(child)])
    return model


def _put(parent: Any, key: Any, child: Module) -> None:
    if isinstance(parent, Pytree) and key in attributes_of(parent) and isinstance(key, str):
        setattr(parent, key, child)
        return
    container: Any = parent
    container[key] = child


def _why_not(module: Any) -> str:
    base: Any = module if type(module) is LoRALinear else module.base_module
    if base is None:
        return "it has no layer below"
    if type(base) not in (Linear, LoRALinear):
        return f"its layer is a {type(base).__name__}, not a Linear"
    kernel = value_of(base.kernel)
    if isinstance(kernel, ArrayNode):
        return f"the kernel is a {type(kernel).__name__}; dequantize it first, or merge before quantizing"
    return ""


def _merged(module: Any) -> Linear:
    """A linear layer with the parameters of another, and the changes of its adapters in its kernel."""
    base: Any = module if type(module) is LoRALinear else module.base_module
    # An adapter may be laid over a layer that has one of its own.
    adapters: list[Any] = [base.lora] if type(base) is LoRALinear else []
    adapters += [module] if base is not module else []
    made = Linear(1, 1, use_bias=False, rngs=Rngs(0))
    for name, value in attributes_of(base).items():
        if name != "lora":
            setattr(made, name, value)
    kernel = value_of(base.kernel)
    # In float32 at least, in which bfloat16 is exact; what is wider, or complex, stays so.
    changed = kernel.astype(jnp.promote_types(kernel.dtype, jnp.float32))
    for adapter in adapters:
        a, b = (value_of(each).astype(changed.dtype) for each in (adapter.lora_a, adapter.lora_b))
        changed = changed + jnp.matmul(a, b, precision=jax.lax.Precision.HIGHEST)
    # A variable of its own: the layer below may have other users, which know nothing of the adapter.
    made.kernel = base.kernel.copy()
    made.kernel.set_value(changed.astype(kernel.dtype))
    return made


def _text(path: Any) -> str:
    return "/".join(map(str, path))
