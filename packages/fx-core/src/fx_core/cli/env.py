"""``fx env``: what a bug report needs."""

import json
import os
import platform
import sys
from typing import Any

import click

from fx_core.cli.app import quiet_registry
from fx_core.cli.versions import versions_of, versions_of_fx
from fx_core.terminal import plain

_PEERS = (
    *("jax", "jaxlib", "numpy", "ml_dtypes", "optax", "orbax-checkpoint", "tensorstore", "safetensors", "msgpack"),
    *("pluggy", "rich", "click", "treescope", "tensorboardX", "onnx", "onnxruntime", "tensorflow", "torch", "flax"),
)
# Values may be secrets elsewhere; what these say changes what is computed.
_VARIABLES = ("FX_", "JAX_", "XLA_", "LIBTPU_", "CUDA_VISIBLE_DEVICES")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Machine-readable output.")
@click.option("--no-devices", is_flag=True, help="Leave out the devices, which JAX takes hold of to list them.")
def env(as_json: bool, no_devices: bool) -> None:
    """Print what a bug report needs: versions, plugins, devices, environment variables."""
    found = _describe(devices=not no_devices)
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    for title, entries in found.items():
        click.echo(f"{title}:")
        for name, value in entries.items():
            click.echo(plain(f"  {name}: {value}"))
        if not entries:
            click.echo("  none")


def _describe(devices: bool) -> dict[str, dict[str, Any]]:
    system = {"python": platform.python_version(), "executable": sys.executable, "platform": platform.platform()}
    plugins = {
        status.origin.plugin: f"{status.origin.owner} {status.origin.version or ''} ({status.state})".replace("  ", " ")
        for status in quiet_registry().plugins
    }
    return {
        "fx": versions_of_fx(),
        "system": {**system, "cpus": os.cpu_count()},
        "packages": versions_of(_PEERS),
        "plugins": plugins,
        "devices": _devices() if devices else {},
        "environment": {k: v for k, v in sorted(os.environ.items()) if k.startswith(_VARIABLES)},
    }


def _devices() -> dict[str, Any]:
    import jax

    try:
        return {str(device): f"{device.platform} {device.device_kind}" for device in jax.devices()}
    except RuntimeError as error:  # a broken driver is just what a report should show
        return {"error": " ".join(str(error).split())}
