"""The backends of this package keep the contract that every backend author's does."""

from fx_ckpt.backends.msgpack import MsgpackBackend
from fx_ckpt.backends.orbax import OrbaxBackend
from fx_ckpt.backends.safetensors import SafetensorsBackend
from fx_core.plugins import registry
from fx_core.testing.checkpoint_backends import CheckpointBackendSuite


class TestMsgpackBackend(CheckpointBackendSuite):
    def make(self):
        return MsgpackBackend()


class TestSafetensorsBackend(CheckpointBackendSuite):
    def make(self):
        return SafetensorsBackend()


class TestOrbaxBackend(CheckpointBackendSuite):
    def make(self):
        return OrbaxBackend()


def test_all_come_through_the_plugin_door():
    backends = registry().checkpoint_backends
    assert backends["msgpack"].load() is MsgpackBackend
    assert backends["safetensors"].load() is SafetensorsBackend
    assert backends["orbax"].load() is OrbaxBackend
    assert backends["orbax"].extra == "orbax"
