"""Lets the tests share the functions in `lifted` and the modules in `transformed`.

Older releases of Flax, which Python 3.11 gets, lack some of what fx is compared with.
"""

import sys
from pathlib import Path

from flax import nnx

sys.path.insert(0, str(Path(__file__).parent))
collect_ignore = [] if hasattr(nnx, "RoPE") else ["test_parity_rope.py"]
# Programs to run, for Flax as they are and for fx when they have been migrated.
collect_ignore_glob = ["flax_programs/*"]
