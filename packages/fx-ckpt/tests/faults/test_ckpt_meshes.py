"""Saved on one mesh, restored on another: to the bit, with the sharding that was asked for."""

import json
import subprocess
import sys
import textwrap

PROGRAM = textwrap.dedent("""
    import itertools, json, sys
    import jax
    jax.config.update("jax_num_cpu_devices", 8)
    import jax.numpy as jnp
    import numpy as np
    import fx_ckpt
    from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec as P, SingleDeviceSharding

    devices = np.array(jax.devices())
    assert len(devices) == 8
    def mesh(*shape):
        return Mesh(devices[: np.prod(shape)].reshape(shape), ("a", "b"), axis_types=(AxisType.Auto,) * 2)

    PLACES = {
        "1": lambda spec: SingleDeviceSharding(devices[0]),
        "another": lambda spec: SingleDeviceSharding(devices[5]),
        "(8, 1)": lambda spec: NamedSharding(mesh(8, 1), spec),
        "(2, 4)": lambda spec: NamedSharding(mesh(2, 4), spec),
        "(4, 2)": lambda spec: NamedSharding(mesh(4, 2), spec),
        "(2, 2)": lambda spec: NamedSharding(mesh(2, 2), spec),
        "replicated": lambda spec: NamedSharding(mesh(2, 4), P()),
    }
    SPECS = {"w": P("a", "b"), "v": P(("a", "b")), "t": P(None, "a"), "k": P("a"), "h": P("b", None), "s": P()}
    HOST = {
        "w": np.random.default_rng(0).normal(size=(16, 8)).astype(np.float32),
        "v": np.arange(32, dtype=np.int32),
        "t": np.arange(3 * 8).reshape(3, 8).astype(jnp.bfloat16),
        "k": np.arange(8).astype(np.int8),
        "h": np.arange(16).reshape(8, 2).astype(jnp.float8_e4m3fn),
        "s": np.float32(3),
    }

    def placed(place):
        return {name: jax.device_put(value, PLACES[place](SPECS[name])) for name, value in HOST.items()}

    def wanted(place):
        return {
            name: jax.ShapeDtypeStruct(value.shape, value.dtype, sharding=PLACES[place](SPECS[name]))
            for name, value in HOST.items()
        }

    counts = {}
    for backend in ("msgpack", "safetensors", "orbax"):
        for before in PLACES:
            path = fx_ckpt.save(f"{sys.argv[1]}/{backend}-{before}", placed(before), backend=backend)
            for after in PLACES:
                restored = fx_ckpt.restore(path, wanted(after))
                for name, value in restored.items():
                    assert value.sharding == PLACES[after](SPECS[name]), (backend, before, after, name, value.sharding)
                    assert value.dtype == HOST[name].dtype
                    assert np.asarray(value).tobytes() == HOST[name].tobytes(), (backend, before, after, name)
                counts[backend] = counts.get(backend, 0) + 1
    print(json.dumps(counts))
""")


def test_every_mesh_to_every_other(tmp_path):
    run = subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path)], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr[-3000:]
    assert json.loads(run.stdout.splitlines()[-1]) == {"msgpack": 49, "safetensors": 49, "orbax": 49}
