"""Models as tables, and as pages in notebooks."""

from fx_nnx.summary.display import display
from fx_nnx.summary.table import CallInfo, filter_rng_streams, tabulate

__all__ = ["CallInfo", "display", "filter_rng_streams", "tabulate"]
