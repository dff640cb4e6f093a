"""The packages of fx and what they register, for the hint when a name is unknown because its package is absent."""

import difflib

FAMILY = frozenset(
    {
        "fx-core",
        "fx-transforms",
        "fx-linen",
        "fx-nnx",
        "fx-bridge",
        "fx-train",
        "fx-ckpt",
        "fx-export",
        "fx-compress",
        "fx-flax",
    }
)
"""Distributions of fx itself: they load whatever ``FX_PLUGIN_AUTOLOAD`` says and may register names without a dot."""

_BROUGHT_BY: dict[str, dict[str, str]] = {
    "collection": {
        **dict.fromkeys(("params", "batch_stats", "cache", "intermediates", "perturbations", "losses"), "fx-core"),
        "observers": "fx-compress",
    },
    "checkpoint_backend": {"msgpack": "fx-ckpt", "safetensors": "fx-ckpt", "orbax": "fx-ckpt[orbax]"},
    "exporter": {
        "stablehlo": "fx-export",
        "onnx": "fx-export[onnx]",
        "savedmodel": "fx-export[tf]",
        "litert": "fx-export[litert]",
    },
    "model": {"linen": "fx-linen", "nnx": "fx-nnx", "nnx_train_state": "fx-nnx"},
    "logger": {
        **dict.fromkeys(("jsonl", "csv", "console"), "fx-train"),
        "tensorboard": "fx-train[tensorboard]",
    },
    "command": {
        "env": "fx-core",
        "plugins": "fx-core",
        "new-plugin": "fx-core",
        "ckpt": "fx-ckpt",
        "export": "fx-export",
        "compress": "fx-compress",
        "report": "fx-train",
        "run-flax": "fx-flax",
        "migrate": "fx-flax[migrate]",
    },
}


def brought_by(kind: str, name: str) -> str | None:
    """Returns which distribution of fx, with its extra, registers a name; None if it is no name of fx's own.

    >>> brought_by("checkpoint_backend", "orbax")
    'fx-ckpt[orbax]'
    >>> brought_by("linen layer", "Dense"), brought_by("linen layer", "acme.Maxout")
    ('fx-linen', None)
    """
    if kind.endswith(" layer"):
        return None if "." in name else "fx-" + kind.removesuffix(" layer")
    return _BROUGHT_BY.get(kind, {}).get(name)


def nearest(kind: str, name: str) -> str | None:
    """Returns the name of fx's own that looks most like a misspelt one.

    >>> nearest("checkpoint_backend", "orbx")
    'orbax'
    """
    return next(iter(difflib.get_close_matches(name, _BROUGHT_BY.get(kind, ()), n=1)), None)
