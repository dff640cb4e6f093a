"""Recurrent cells and sequences.

A cell takes a carry and inputs to a new carry. Its maps are `Affine` pairs of kernel and bias, so that a layer can keep
them as it likes: one parameter per gate, or all gates in one matrix.
"""

from fx_core.ops.recurrent.conv_lstm import conv_lstm, conv_lstm_params
from fx_core.ops.recurrent.gated import gru, gru_fused, gru_update, mgu, simple
from fx_core.ops.recurrent.lstm import lstm, lstm_fused, lstm_update
from fx_core.ops.recurrent.maps import Affine, fuse, pair_of
from fx_core.ops.recurrent.params import CellParams, gru_params, lstm_params, mgu_params, simple_params
from fx_core.ops.recurrent.sequence import (
    check_lengths,
    feature_axes_of,
    flip_sequences,
    select_last,
    sequence_axes,
)

__all__ = [
    "Affine",
    "CellParams",
    "check_lengths",
    "conv_lstm",
    "conv_lstm_params",
    "feature_axes_of",
    "flip_sequences",
    "fuse",
    "gru",
    "gru_fused",
    "gru_params",
    "gru_update",
    "lstm",
    "lstm_fused",
    "lstm_params",
    "lstm_update",
    "mgu",
    "mgu_params",
    "pair_of",
    "select_last",
    "sequence_axes",
    "simple",
    "simple_params",
]
