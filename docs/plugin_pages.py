"""The chapter "Plugin reference", written from the hooks, the entries and the interfaces of `fx_core.plugins`."""

import dataclasses
import inspect
import re
import textwrap
from collections.abc import Iterator

from fx_core.plugins import checks, hooks, interfaces, switches
from fx_core.plugins.entries import Entry

USED_BY = {
    "fx_layers": "`nn.layer`, `nn.build` and `nn.describe` of fx-linen, the same of fx-nnx, `fx plugins schema`",
    "fx_collections": "`init`, `vmap` and `scan` of fx-linen; `StateAxes`, `grad` and `vjp` of fx-nnx; fx-bridge; "
    "`fx_ckpt.save` and `restore`; see [what a collection promises](../plugins.md)",
    "fx_checkpoint_backends": "`fx_ckpt.save(backend=…)`, `fx_ckpt.CheckpointManager(backend=…)`, `fx_ckpt.convert`",
    "fx_exporters": "`fx_export.export(format=…)` and `fx_export.load`",
    "fx_loggers": "`fx_train.Log(…)`",
    "fx_commands": "the command `fx`",
    "fx_models": "`fx_export.export`, `fx_compress.for_inference`",
    "fx_onnx_primitives": '`fx_export.export(format="onnx")`',
    "fx_saving": "`fx_ckpt.save`, `fx_ckpt.CheckpointManager.save`",
    "fx_restored": "`fx_ckpt.restore`, `fx_ckpt.CheckpointManager.restore`",
}
"""Who asks for the entries of a hook, or calls it."""

_INTERFACES = {
    "fx_checkpoint_backends": interfaces.CheckpointBackend,
    "fx_exporters": interfaces.Exporter,
    "fx_loggers": interfaces.MetricLogger,
}


def reference() -> str:
    """Returns the chapter as Markdown."""
    version = ".".join(map(str, hooks.API_VERSION))
    parts = [
        "# Plugin reference",
        f"Written from the code of `fx_core.plugins`, whose interface has version {version}. A plugin is an installed "
        f"distribution with an entry point in the group `{hooks.PROJECT}`, which names a module with the hooks below, "
        "each marked with `fx_core.plugins.hookimpl`, and `fx_api_version`, the version of this interface as text. "
        "[Plugins](../plugins.md) explains them, and [Write a plugin](../write_a_plugin.md) shows how to begin.",
        "## Fields of every entry",
        _fields(Entry),
    ]
    for name, entry in checks.ENTRY_HOOKS.items():
        parts += [f"## {name}", *_hook(name), f"It returns entries of this type:\n\n### {entry.__name__}", _text(entry)]
        own = _fields(entry, beside=Entry)
        parts += [f"Beside the fields of every entry:\n\n{own}"] if own else []
        if name in _INTERFACES:
            parts += list(_methods(_INTERFACES[name]))
    for name in checks.LIFECYCLE_HOOKS:
        call = getattr(hooks, name)
        arguments = ", ".join(inspect.signature(call).parameters)
        parts += [
            f"## {name}",
            f"`{name}({arguments})`, of which a plugin takes the arguments that it names.",
            *_hook(name),
        ]
    parts += ["## Environment variables", "\n".join(_variables())]
    return "\n\n".join(parts) + "\n"


def _hook(name: str) -> Iterator[str]:
    yield _plain((inspect.getdoc(getattr(hooks, name)) or "").strip())
    yield f"Used by {USED_BY[name]}."


def _text(kind: type) -> str:
    """What a docstring says before its sections."""
    return _plain(re.split(r"\n\s*(?:Attributes|Args|Raises|Returns):", inspect.getdoc(kind) or "")[0].strip())


def _fields(entry: type, beside: type | None = None) -> str:
    """The fields of an entry, with what its docstring says about each."""
    said = dict(_described(entry))
    known = {field.name for field in dataclasses.fields(beside)} if beside else {"origin"}  # type: ignore[arg-type]
    rows = ["| field | type | default | meaning |", "|---|---|---|---|"]
    for field in dataclasses.fields(entry):  # type: ignore[arg-type]
        if field.name not in known:
            default = "needed" if field.default is dataclasses.MISSING else f"`{field.default!r}`"
            kind = inspect.formatannotation(field.type).replace("|", "\\|")
            rows.append(f"| `{field.name}` | `{kind}` | {default} | {said[field.name]} |")
    return "\n".join(rows) if len(rows) > 2 else ""


def _described(entry: type) -> Iterator[tuple[str, str]]:
    _, _, section = (inspect.getdoc(entry) or "").partition("Attributes:\n")
    for name, text in re.findall(
        r"^(\w+): (.*(?:\n +.*)*)", textwrap.dedent(section.partition("\n\n")[0]), re.MULTILINE
    ):
        yield name, _plain(" ".join(text.split()))


def _methods(interface: type) -> Iterator[str]:
    yield f"#### The target: {interface.__name__}\n\n{_text(interface)}"
    for name, method in vars(interface).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            arguments = ", ".join(list(inspect.signature(method).parameters)[1:])
            yield f"`{name}({arguments})`: {_plain(_text(method))}"


def _variables() -> Iterator[str]:
    yield "| variable | field of `fx_core.plugins.Switches` | meaning |\n|---|---|---|"
    for name, text in _described(switches.Switches):
        variable = re.search(r"FX_\w+(?:=[\w,]+)?", text)
        yield f"| `{variable[0] if variable else ''}` | `{name}` | {text} |"


def _plain(text: str) -> str:
    return text.replace("``", "`")
