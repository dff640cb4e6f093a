"""``fx plugins``, ``fx plugins doctor`` and ``fx plugins schema``."""

import dataclasses
import json
import textwrap
from typing import Any

import click
from rich.console import Console
from rich.markup import escape

from fx_core.cli.app import quiet_registry
from fx_core.plugins.doctor import Finding, examine
from fx_core.plugins.entries import Entry
from fx_core.plugins.hooks import API_VERSION
from fx_core.plugins.registry import Face, Registry
from fx_core.plugins.status import PluginStatus
from fx_core.terminal import plain

_COLORS = {"loaded": "green", "off": "dim", "failed": "bold red", "problem": "bold red", "note": "yellow"}


@click.group(invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@click.pass_context
def plugins(ctx: click.Context, as_json: bool) -> None:
    """List plugins: what is there, from where, which version."""
    if ctx.invoked_subcommand is None:
        registry = quiet_registry()
        click.echo(json.dumps(_describe(registry), indent=2)) if as_json else _show(registry)


@plugins.command()
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
def doctor(as_json: bool) -> None:
    """Load all that plugins registered, and report what is broken.

    The exit code is 1 if anything is.
    """
    registry = quiet_registry()
    findings = examine(registry)
    broken = [finding for finding in findings if finding.level == "problem"]
    checked = sum(len(status.entries) for status in registry.plugins)
    if as_json:
        report = {"healthy": not broken, "checked": checked, "findings": [dataclasses.asdict(f) for f in findings]}
        click.echo(json.dumps(report, indent=2))
    else:
        _report(findings, len(registry.plugins), checked)
    if broken:
        raise SystemExit(1)


@plugins.command()
@click.option("--face", type=click.Choice(["linen", "nnx"]), default="linen", show_default=True, help="Whose layers.")
def schema(face: Face) -> None:
    """Print a JSON Schema of the descriptions of models.

    It has every installed layer, for editors to complete and check.
    """
    # Layers bring JAX; the other commands of this group do without it.
    from fx_core import descriptions

    click.echo(json.dumps(descriptions.schema(face), indent=2))


def _describe(registry: Registry) -> dict[str, Any]:
    return {
        "api_version": ".".join(map(str, API_VERSION)),
        "plugins": [
            {
                **dataclasses.asdict(status.origin),
                "state": status.state,
                "reason": status.reason,
                "entries": [_fields(entry) for entry in status.entries],
            }
            for status in registry.plugins
        ],
        "problems": [str(problem) for problem in registry.problems],
        "clashes": [str(clash) for clash in registry.clashes()],
    }


def _fields(entry: Entry) -> dict[str, Any]:
    own = {field.name: getattr(entry, field.name) for field in dataclasses.fields(entry) if field.name != "origin"}
    return {"kind": entry.kind, **own}


def _show(registry: Registry) -> None:
    console = Console(soft_wrap=True)
    for status in registry.plugins:
        origin, color = status.origin, _COLORS[status.state]
        owner = f"{origin.distribution or '-'} {origin.version or ''}".strip()
        name = "" if origin.plugin == origin.distribution else f"{origin.plugin} of "
        console.print(f"{escape(name + owner)}  [{color}]{status.state}[/]", highlight=False)
        for line in _summary(status):
            console.print(textwrap.fill(plain(line), **_layout(console.width)), markup=False, highlight=False)
    entries = sum(len(status.entries) for status in registry.plugins)
    console.print(f"{len(registry.plugins)} plugins, {entries} entries", highlight=False)
    for problem in registry.problems:
        console.print(f"[bold red]problem[/] {escape(str(problem))}")
    for clash in registry.clashes():
        console.print(f"[bold red]clash[/] {escape(str(clash))}")


def _layout(width: int) -> dict[str, Any]:
    """How lines below a plugin are wrapped: names stay whole."""
    whole = {"break_long_words": False, "break_on_hyphens": False}
    return {"width": max(width, 40), "initial_indent": "    ", "subsequent_indent": "        ", **whole}


def _summary(status: PluginStatus) -> list[str]:
    if status.reason is not None:
        return [status.reason]
    kinds: dict[str, list[str]] = {}
    for entry in status.entries:
        kinds.setdefault(entry.label, []).append(entry.name)
    return [f"{label}: {', '.join(names)}" for label, names in kinds.items()]


def _report(findings: list[Finding], plugins: int, checked: int) -> None:
    console = Console()
    for finding in findings:
        console.print(
            f"[{_COLORS[finding.level]}]{finding.level}[/] {escape(finding.subject)} of {escape(finding.owner)}"
        )
        console.print(escape(finding.text), style="dim", highlight=False)
    broken = sum(finding.level == "problem" for finding in findings)
    verdict = f"{broken} problem{'s' * (broken != 1)}" if broken else "all well"
    console.print(f"{plugins} plugins, {checked} entries: {verdict}.")
