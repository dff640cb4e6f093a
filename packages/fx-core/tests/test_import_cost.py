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


def test_drawing_parameters_loads_no_pallas():
    # Its settings are part of the key of JAX's caches: what was compiled before would be compiled again.
    program = f"""
import sys
import jax
before = set(sys.modules)
from fx_core.ops.initializers import lecun_normal
lecun_normal()(jax.random.key(0), (2, 2))
print(sorted(name for name in set(sys.modules) - before if name.startswith({HEAVY!r})))
"""
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
