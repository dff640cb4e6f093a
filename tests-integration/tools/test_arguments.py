"""Every argument of a public function is read, or is written down here with the reason why not."""

import ast
import importlib
import inspect
from pathlib import Path

import pytest

# The docstrings say so, and the tests of the packages show that they change nothing.
WITHOUT_EFFECT = {
    "fx_bridge": {
        "Module.init_with_output": {"mutable"},
        "Module.param": {"unbox"},
        "Module.variable": {"unbox"},
        "to_linen": {"abstract_init"},
    },
    "fx_ckpt": {"restore_checkpoint": {"parallel"}},
    "fx_compress": {},
    "fx_core": {},
    "fx_export": {
        f"{kind}Exporter.{method}": {"metadata"}  # the bundle keeps it, whatever the format
        for kind in ("LiteRT", "SavedModel", "StableHLO")
        for method in ("export", "export_several")
    }
    | {"LiteRTExporter.verification": {"options"}},  # it is given those of `export`, and most are not its concern
    "fx_linen": {
        "Bidirectional.__call__": {"keep_order", "reverse"},
        "Fp8DirectDotGeneralOp.__call__": {"precision", "preferred_element_type"},
        "Listing.module_paths": {"show_repeated"},
        "Running.bind": {"args"},
    },
    "fx_nnx": {
        "Bidirectional.__call__": {"keep_order", "reverse"},
        "for_inference": {"variables"},  # what the entry of a plugin for models takes
        "pmap": {"donate_argnums"},
        "with_rngs": {"graph_updates"},
    },
    "fx_train": {"ConsoleLogger.__init__": {"directory"}},
    "fx_transforms": {},
}
# An interface says what these get, and others of it use more; or there is nothing but the interface.
OF_INTERFACES = {
    "fx_compress": {"straight_through": {"x"}},  # its rule for derivatives reads it
    "fx_core": {"ArrayNode.fetched": {"beside"}, "ArrayNode.leaf_specs": {"pieces"}},
    "fx_linen": {"RNNCellBase.initialize_carry": {"rng", "input_shape"}},
    "fx_nnx": {
        **{key: {"path", "x"} for key in ("Everything.__call__", "Nothing.__call__")},
        **{key: {"path"} for key in ("OfType.__call__", "WithTag.__call__")},
        **{key: {"path"} for key in ("OfCollection.__call__", "Differentiable.__call__")},
        **{key: {"x"} for key in ("PathContains.__call__", "PathIn.__call__")},
        **{key: {"path", "prefix"} for key in ("default_split", "merge_tree_node")},
        "Metric.update": {"kwargs"},
        "ObjectCarrier.follow": {"after"},
        "ObjectCarrier.writes": {"shape"},
        "RNNCellBase.__call__": {"carry", "inputs"},
        "RNNCellBase.initialize_carry": {"carry_init", "input_shape", "rngs"},
        "SealedState.replace_by_pure_dict": {"pure_dict", "replace_fn"},
        "ValueOperators.get_value": {"index"},
        "ValueOperators.set_value": {"index", "value"},
    },
}


def arguments(function):
    given = function.args
    rest = [argument for argument in (given.vararg, given.kwarg) if argument]
    found = {a.arg for a in (*given.posonlyargs, *given.args, *given.kwonlyargs, *rest)} - {"self", "cls"}
    return {name for name in found if not name.startswith("_")}  # others say themselves that nobody reads them


def unread(function):
    body = [part for part in function.body if not (isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant))]
    names = [node for part in body for node in ast.walk(part) if isinstance(node, ast.Name)]
    read = {name.id for name in names if isinstance(name.ctx, ast.Load)}
    return arguments(function) - read if body and "locals" not in read else set()


def functions(tree):
    """Yields the public functions of a module, and the public methods and calls of its public classes, by name."""
    for node in tree.body:
        if isinstance(node, ast.FunctionDef) and not node.name.startswith("_"):
            yield node.name, node
        elif isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
            for part in node.body:
                if isinstance(part, ast.FunctionDef) and (
                    part.name in ("__init__", "__call__") or not part.name.startswith("_")
                ):
                    yield f"{node.name}.{part.name}", part


@pytest.mark.parametrize("package", WITHOUT_EFFECT)
def test_all_arguments_have_an_effect(package):
    # What the caller of a callback or a rule for an operator gives is not for all of them to use.
    import fx_train

    called = {name for name, _ in inspect.getmembers(fx_train.Callback, inspect.isfunction)}
    root = Path(importlib.import_module(package).__file__).parent
    modules = [file for file in root.rglob("*.py") if not {"testing", "onnx"} & set(file.relative_to(root).parts)]
    found = {
        name: idle
        for file in modules
        for name, function in functions(ast.parse(file.read_text()))
        if name.rpartition(".")[2] not in called - {"__init__"} and (idle := unread(function))
    }
    assert found == WITHOUT_EFFECT[package] | OF_INTERFACES.get(package, {})


def test_what_is_not_read_is_found():
    tree = ast.parse(
        "def f(a, *, b=1, **c):\n    'Text.'\n    del b\n    return a\nclass A:\n    def m(self, x): pass\n"
    )
    assert {name: unread(function) for name, function in functions(tree)} == {"f": {"b", "c"}, "A.m": {"x"}}
