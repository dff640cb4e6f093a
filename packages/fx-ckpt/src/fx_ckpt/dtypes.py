"""The dtypes that checkpoints may name, besides those in `fx_core.stored_dtypes`."""

import re

_UNITS = r"\[\d{0,6}(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\]"

TIMES = re.compile(rf"(datetime64|timedelta64)({_UNITS})?")
"""Names of dates and durations."""

RAW = re.compile(rf"([<>|][SU]\d{{1,9}}|[<>][mM]8({_UNITS})?|>[iufc]\d{{1,2}})")
"""NumPy's codes of what is stored as bytes: strings, dates, foreign byte order."""
