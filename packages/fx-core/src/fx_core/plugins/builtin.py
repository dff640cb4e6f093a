"""What fx-core registers: the variable collections that layers use, and its commands.

``saved`` says whether a checkpoint holds the collection, ``mutable_in_init`` whether ``init`` returns it. Sown values
are recomputed by every step, so they are not saved; a cache is kept, since losing state silently is worse than a
larger file.
"""

from collections.abc import Iterable

from fx_core.plugins.entries import CollectionEntry, CommandEntry
from fx_core.plugins.hooks import hookimpl

fx_api_version = "1.1"


@hookimpl
def fx_collections() -> Iterable[CollectionEntry]:
    """Returns the collections of Flax, under its names."""
    return [
        CollectionEntry(
            name="params",
            target="fx_nnx:Param",
            summary="Weights: what an optimizer changes",
            differentiable=True,
        ),
        CollectionEntry(
            name="batch_stats",
            target="fx_nnx:BatchStat",
            summary="Running statistics of normalization layers",
        ),
        CollectionEntry(
            name="cache",
            target="fx_nnx:Cache",
            summary="Keys, values and position of autoregressive decoding",
        ),
        CollectionEntry(
            name="intermediates",
            target="fx_nnx:Intermediate",
            summary="Values sown on the way, to look at",
            saved=False,
            mutable_in_init=False,
        ),
        CollectionEntry(
            name="perturbations",
            target="fx_nnx:Perturbation",
            summary="Zeros added to activations, to take gradients with respect to them",
            saved=False,
            differentiable=True,
        ),
        CollectionEntry(
            name="losses",
            target="fx_nnx:Loss",
            summary="Auxiliary losses sown by layers",
            saved=False,
        ),
    ]


@hookimpl
def fx_commands() -> Iterable[CommandEntry]:
    """Returns the commands about plugins and about what is installed."""
    return [
        CommandEntry(name="env", target="fx_core.cli.env:env", summary="Print what a bug report needs"),
        CommandEntry(name="plugins", target="fx_core.cli.plugins:plugins", summary="List plugins, or examine them"),
        CommandEntry(
            name="new-plugin", target="fx_core.cli.new_plugin:new_plugin", summary="Write the package of a new plugin"
        ),
    ]
