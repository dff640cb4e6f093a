import subprocess
import sys

HEAVY = ("jax.extend", "jax._src.pallas", "orbax", "optax", "msgpack", "click", "rich", "pluggy")


def test_importing_the_core_loads_no_heavy_module():
    program = f"""
import sys
import jax, jax.numpy
before = set(sys.modules)
import fx_core
print(sorted(name for name in set(sys.modules) - before if name.startswith({HEAVY!r})))
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
