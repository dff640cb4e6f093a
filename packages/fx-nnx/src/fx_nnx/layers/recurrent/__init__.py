"""Recurrent cells, and networks that run them over sequences."""

from fx_nnx.layers.recurrent.base import RNNCellBase
from fx_nnx.layers.recurrent.bidirectional import Bidirectional
from fx_nnx.layers.recurrent.gated import GRUCell, SimpleCell
from fx_nnx.layers.recurrent.lstm import LSTMCell, OptimizedLSTMCell
from fx_nnx.layers.recurrent.rnn import RNN

__all__ = [
    "RNN",
    "Bidirectional",
    "GRUCell",
    "LSTMCell",
    "OptimizedLSTMCell",
    "RNNCellBase",
    "SimpleCell",
]
