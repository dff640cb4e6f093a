"""``fx run-flax``."""

import click

from fx_flax.running import run

__all__ = ["run_flax"]


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option("-m", "module", is_flag=True, help="PROGRAM is the name of a module.")
@click.argument("program")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
def run_flax(program: str, arguments: tuple[str, ...], module: bool) -> None:
    """Run a program that was written for Flax, unchanged, on fx."""
    run(program, arguments, module=module)
