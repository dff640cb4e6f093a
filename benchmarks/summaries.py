"""The table of ResNet-50, against one by hand: shapes of each layer's call traced, and of `init`, printed with rich."""

import importlib
import io
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import rich.console
import rich.table

from benchmarks import networks, nnx_networks
from benchmarks.init_trace import drawn_by_hand
from benchmarks.measure import Ratio, in_turns, ratios

LAYERS = ("_conv", "_batch_norm", "_block")


def shown(tree: Any) -> str:
    """Shapes, a line each."""
    return "\n".join(
        f"{path[-1].key if path else ''} {leaf.dtype}[{','.join(map(str, leaf.shape))}]"
        for path, leaf in jax.tree_util.tree_leaves_with_path(tree)
    )


def traced(variables: Any, x: Any) -> list[tuple[str, Any, Any, Any]]:
    """Name, variables, input and output of each layer's call."""
    rows: list[tuple[str, Any, Any, Any]] = []
    plain = {name: getattr(networks, name) for name in LAYERS}

    def noting(name: str) -> Callable[..., Any]:
        def call(params: Any, x: Any, *more: Any) -> Any:
            out = plain[name](params, x, *more)
            own = {
                "_conv": lambda: {"params": params[f"Conv_{more[0]}"]},
                "_batch_norm": lambda: {col: params[col][f"BatchNorm_{more[0]}"] for col in params},
                "_block": lambda: {},
            }[name]()
            rows.append((name, own, x, out))
            return out

        return call

    for name in LAYERS:
        setattr(networks, name, noting(name))
    try:
        jax.eval_shape(lambda variables, x: networks.resnet_by_hand(variables, x), variables, x)
    finally:
        for name in LAYERS:
            setattr(networks, name, plain[name])
    return rows


def by_hand(variables: Callable[[], Any], x: Any) -> str:
    """The table of a network that is written by hand."""
    columns = ("params", "batch_stats")
    table = rich.table.Table("layer", "inputs", "outputs", *columns, title="ResNet", show_lines=True)
    found = variables()
    for name, own, before, after in traced(found, x):
        table.add_row(name, shown(before), shown(after), *(shown(own.get(col, {})) for col in columns))
    table.caption = f"Total: {sum(leaf.size for leaf in jax.tree.leaves(found)):,}"
    console = rich.console.Console(file=io.StringIO(), force_terminal=True)
    console.print(table)
    return console.file.getvalue()


def cases(libraries: tuple[str, ...] = ("fx_linen", "fx_nnx")) -> Iterator[Ratio]:
    functional: dict[str, Callable[[], object]] = {}
    objects: dict[str, Callable[[], object]] = {}
    for library in libraries:
        module: Any = importlib.import_module(library)
        if library.endswith("linen"):
            model, x = networks.resnet(module)
            functional[library] = lambda model=model, x=x: model.tabulate(jax.random.key(0), x)
            variables = jax.eval_shape(model.init, jax.random.key(0), x)
            init = drawn_by_hand(variables)
            functional["raw"] = lambda init=init, x=x: by_hand(lambda: jax.eval_shape(init, jax.random.key(0)), x)
            functional["trace"] = lambda v=variables, x=x: jax.eval_shape(lambda *a: networks.resnet_by_hand(*a), v, x)
        else:
            model, x = nnx_networks.resnet(module)
            objects[library] = lambda nnx=module, model=model, x=x: nnx.tabulate(model, x)
            kinds = {"params": module.Param, "batch_stats": module.BatchStat}
            found = {col: module.to_pure_dict(module.state(model, kind)) for col, kind in kinds.items()}
            objects["raw"] = lambda found=found, x=x: by_hand(lambda: found, x)
    if functional:
        times = in_turns(functional, rounds=11, clock=time.process_time)
        alone = times.pop("trace")
        yield from ratios("table of ResNet-50", times, {"fx_linen": 1.5})
        tables = {library: taken for library, taken in times.items() if library != "raw"}
        yield from ratios(
            "table of ResNet-50, over tracing the call alone", {**tables, "raw": alone}, {"fx_linen": 1.5}
        )
    if objects:
        times = in_turns(objects, rounds=11, clock=time.process_time)
        yield from ratios("table of ResNet-50, whose parameters are there", times, {"fx_nnx": 1.5})
