"""``python -m fx_flax program.py …`` and ``python -m fx_flax -m module …``."""

import sys

from fx_flax.running import run

arguments = sys.argv[1:]
as_module = arguments[:1] == ["-m"]
program, *own = arguments[as_module:] or ["--help"]
if program.startswith("-"):
    sys.exit("usage: python -m fx_flax program.py [arguments] | python -m fx_flax -m module [arguments]")
run(program, own, module=as_module)
