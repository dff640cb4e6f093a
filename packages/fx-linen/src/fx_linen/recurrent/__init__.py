"""Recurrent cells and the loops that run them over sequences."""

from fx_linen.recurrent.base import RNNCellBase
from fx_linen.recurrent.bidirectional import Bidirectional
from fx_linen.recurrent.conv_lstm import ConvLSTMCell
from fx_linen.recurrent.gated import GRUCell, MGUCell, SimpleCell
from fx_linen.recurrent.lstm import LSTMCell, OptimizedLSTMCell
from fx_linen.recurrent.rnn import RNN, flip_sequences

__all__ = [
    "RNN",
    "Bidirectional",
    "ConvLSTMCell",
    "GRUCell",
    "LSTMCell",
    "MGUCell",
    "OptimizedLSTMCell",
    "RNNCellBase",
    "SimpleCell",
    "flip_sequences",
]
