"""Arrays in bytes that programs pack and unpack by msgpack themselves."""

import jax.numpy as jnp
import msgpack
import numpy as np
import pytest
from fx_ckpt.formats.msgpack import msgpack_restore, msgpack_serialize
from fx_ckpt.formats.msgpack_hooks import pack, unpack


@pytest.mark.parametrize("leaf", [np.arange(6.0).reshape(2, 3), jnp.ones(2, jnp.bfloat16), np.float32(3), 1 + 2j, "a"])
def test_bytes_are_those_of_whole_states(leaf):
    data = msgpack.packb({"a": leaf}, default=pack)
    assert data == msgpack_serialize({"a": leaf})
    back = msgpack.unpackb(data, ext_hook=unpack)["a"]
    assert type(back) is type(msgpack_restore(data)["a"])
    np.testing.assert_array_equal(back, leaf)


def test_an_extension_of_others_stays():
    extension = msgpack.ExtType(9, b"x")
    assert msgpack.unpackb(msgpack.packb(extension), ext_hook=unpack) == extension
