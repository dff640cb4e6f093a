"""Transforms of modules against Flax Linen: names, parameters, results and gradients, over transforms and forms."""

import flax.linen
import fx_linen
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from transformed import (
    KEY,
    OWN,
    SHARED,
    X,
    branches,
    counting_scan,
    decorated,
    derivatives,
    fn_form,
    kit,
    loop,
    mapped_function,
    mutable_mapped,
    net,
    on_self,
    own_rule,
    remat_over_layers,
    several_methods,
    shared_argument,
    step_scan,
    transposed,
    vjp_of_many,
)

MODELS = {
    # Classes
    "jit": lambda k: net(k, k.nn.jit(k.Layer)),
    "jit_setup": lambda k: net(k, k.nn.jit(k.Made)),
    "remat": lambda k: net(k, k.nn.remat(k.Layer)),
    "checkpoint": lambda k: net(k, k.nn.checkpoint(k.Made, policy=jax.checkpoint_policies.dots_saveable)),
    "vmap": lambda k: net(k, k.nn.vmap(k.Layer, **OWN)),
    "vmap_shared": lambda k: net(k, k.nn.vmap(k.Layer, **SHARED)),
    "vmap_setup": lambda k: net(k, k.nn.vmap(k.Made, **OWN, in_axes=1, out_axes=1)),
    "vmap_axis": lambda k: net(k, k.nn.vmap(k.Layer, variable_axes={"params": -1}, split_rngs={"params": True})),
    "vmap_size": lambda k: net(k, k.nn.vmap(k.Layer, **OWN, in_axes=None, axis_size=5)),
    "vmap_partitioned": lambda k: net(k, k.nn.vmap(k.Named, **OWN, metadata_params={k.nn.PARTITION_NAME: "heads"})),
    "scan": lambda k: net(k, step_scan(k, k.Step)),
    "scan_unroll_reverse": lambda k: net(k, step_scan(k, k.Step, unroll=2, reverse=True)),
    "scan_axis": lambda k: net(k, step_scan(k, k.Step, variable_axes={"params": 1})),
    "scan_partitioned": lambda k: net(k, step_scan(k, k.NamedStep, metadata_params={k.nn.PARTITION_NAME: "layers"})),
    "scan_shared": lambda k: net(
        k, k.nn.scan(k.Step, variable_broadcast="params", split_rngs={"params": False}, length=3)
    ),
    "remat_scan": lambda k: net(k, k.nn.remat_scan(k.Layer, lengths=(2, 2))),
    "fold_rngs": lambda k: net(k, k.nn.fold_rngs(k.Layer)),
    "map_variables": transposed,
    "map_variables_mutable": mutable_mapped,
    "add_metadata_axis": lambda k: net(
        k, k.nn.add_metadata_axis(k.Named, {"params": 0}, {k.nn.PARTITION_NAME: "layers"})
    ),
    "methods": several_methods,
    "remat_layers": remat_over_layers,
    # Functions of a submodule
    "fn_jit": fn_form("jit"),
    "fn_remat": fn_form("remat"),
    "fn_vmap": fn_form("vmap", **OWN),
    "fn_fold_rngs": fn_form("fold_rngs"),
    "fn_map_variables": mapped_function,
    # Functions of the running module
    "self_jit": on_self("jit"),
    "self_remat": on_self("remat"),
    "self_vmap": on_self("vmap", **SHARED),
    # Decorated methods
    "method_jit": decorated("jit"),
    "method_remat": decorated("remat"),
    "method_vmap": decorated("vmap", **OWN),
    # Nested
    "jit_of_vmap": lambda k: net(k, k.nn.jit(k.nn.vmap(k.Layer, **OWN))),
    "scan_of_remat": lambda k: net(k, step_scan(k, k.nn.remat(k.Step, prevent_cse=False))),
    "vmap_of_scan": lambda k: net(k, k.nn.vmap(step_scan(k, k.Step), **OWN)),
    "scan_of_vmap": lambda k: net(k, step_scan(k, k.nn.vmap(k.Step, **OWN))),
    "remat_of_scan_of_jit": lambda k: net(k, k.nn.remat(step_scan(k, k.nn.jit(k.Step)))),
    "scan_of_scan": lambda k: net(
        k, step_scan(k, k.nn.scan(k.Step, **OWN, length=2), metadata_params={k.nn.PARTITION_NAME: "outer"})
    ),
    # Modules as arguments and fields
    "shared_argument": shared_argument,
    "cond": branches("cond"),
    "switch": branches("switch"),
    "while_loop": loop,
    "vjp_many": vjp_of_many,
    "custom_vjp": own_rule,
    **{
        kind: derivatives(kind)
        for kind in ("vjp", "vjp_aux", "jvp", "grad", "grad_aux", "value_and_grad", "value_and_grad_aux")
    },
}


def plain(tree):
    """Boxes as dicts, so that the trees of both libraries can be compared."""

    def open_box(x):
        return {"value": x.value, "names": np.asarray([str(n) for n in x.names])} if hasattr(x, "names") else x

    boxed = jax.tree.map(open_box, tree, is_leaf=lambda x: hasattr(x, "names"))
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(boxed)}


def compare(ours, theirs, exact=False):
    ours, theirs = plain(ours), plain(theirs)
    assert list(ours) == list(theirs)
    for path, value in ours.items():
        if exact or np.asarray(value).dtype.kind == "U":
            np.testing.assert_array_equal(np.asarray(value), np.asarray(theirs[path]), err_msg=path)
        else:
            np.testing.assert_allclose(value, theirs[path], rtol=2e-6, atol=2e-6, err_msg=path)


@pytest.mark.parametrize("case", MODELS)
def test_models(case):
    results = []
    for nn in (fx_linen, flax.linen):
        model = MODELS[case](kit(nn))
        y, variables = model.init_with_output(KEY, X)
        unboxed = nn.unbox(variables)
        # Gradients through boxes have boxes of the one library or the other: differentiate the arrays.
        out, state = model.apply(variables, X, mutable=["state"])

        def loss(unboxed, nn=nn, model=model, variables=variables):
            boxed = jax.tree.map(
                lambda box, x: box.replace_boxed(x) if hasattr(box, "names") else x,
                variables,
                unboxed,
                is_leaf=lambda x: hasattr(x, "names"),
            )
            out, _ = model.apply(boxed, X, mutable=["state"])
            return sum(jnp.sum(leaf) for leaf in jax.tree.leaves(out))

        # A while loop has no gradient.
        grads = () if case == "while_loop" else jax.grad(loss, allow_int=True)(unboxed)
        results.append((variables, y, out, state, grads))
    (variables, *rest), (their_variables, *their_rest) = results
    compare(variables, their_variables, exact="jit" not in case)
    compare(rest, their_rest)


KEYS = {"params": KEY, "dropout": jax.random.key(3)}


@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("form", ["vmap", "scan", "jit", "remat", "fold_rngs"])
def test_streams_split_or_shared(form, split):
    results = []
    for nn in (fx_linen, flax.linen):
        k = kit(nn)
        rngs = {"params": True, "dropout": split}
        if form == "vmap":
            axes = {"params": 0, "counts": 0}
            model = net(k, nn.vmap(k.Noisy, variable_axes=axes, split_rngs=rngs))
        elif form == "scan":
            model = net(k, step_scan(k, k.NoisyStep, split_rngs=rngs))
        else:
            model = net(k, getattr(nn, form)(k.Noisy))
        (y, variables) = model.init_with_output(KEYS, X)
        out = model.apply(variables, X, rngs=KEYS, mutable=["counts"])
        results.append((variables, y, out))
    compare(*results)


def test_carried_variables():
    results = []
    for nn in (fx_linen, flax.linen):
        model = counting_scan(kit(nn))
        before = {"state": {"counting": {"total": jnp.ones(3)}}}
        params = kit(nn).nn.Dense(3).init(KEY, jnp.ones(3))["params"]
        variables = {"params": {"counting": {"Dense_0": params}}, **before}
        results.append(model.apply(variables, X, mutable=["state"]))
    compare(*results)
