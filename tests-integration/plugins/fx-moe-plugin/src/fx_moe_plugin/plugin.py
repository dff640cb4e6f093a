"""The hooks: what there is, by name."""

from collections.abc import Iterable

from fx_core.plugins import CollectionEntry, LayerEntry, hookimpl

fx_api_version = "1.1"


@hookimpl
def fx_layers() -> Iterable[LayerEntry]:
    """The mixture, for both faces."""
    return [
        LayerEntry(
            name="moe.MixtureOfExperts",
            target="fx_moe_plugin.layers:MixtureOfExperts",
            face="both",
            summary="Perceptrons of which each token uses the few that a router chooses",
        )
    ]


@hookimpl
def fx_collections() -> Iterable[CollectionEntry]:
    """What the router did; the collection ``losses`` is fx's own."""
    return [
        CollectionEntry(
            name="moe.router",
            target="fx_moe_plugin.variables:RouterLoad",
            summary="Which part of the tokens each expert got",
            saved=False,
            mutable_in_init=False,
        )
    ]
