"""Numbers, durations and moments as people read them."""

import datetime
import math


def number(value: float) -> str:
    """Four digits.

    >>> [number(x) for x in (0.5, 1234567.0, 12345.6, 0.000123, 5.713e-08, 1e12, float("nan"))]
    ['0.5', '1,234,567', '12,346', '0.000123', '5.713e-8', '1e12', 'nan']
    """
    if not math.isfinite(value) or value == 0:
        return f"{value:g}"
    if not 1e-4 <= abs(value) < 1e7:
        mantissa, exponent = f"{value:.3e}".split("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    text = f"{value:,.{max(0, 3 - math.floor(math.log10(abs(value))))}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def percent(share: float) -> str:
    """Returns a share of one; a dash where there is none.

    >>> percent(0.75), percent(float("nan"))
    ('75.0 %', '–')
    """
    return "–" if math.isnan(share) else f"{100 * share:.1f} %"


def duration(seconds: float) -> str:
    """How long.

    >>> duration(3.21), duration(61), duration(3700)
    ('3.2 s', '1 min 01 s', '1 h 01 min')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s" if minutes else f"{seconds:.1f} s"


def moment(seconds: float) -> str:
    """When, from seconds since 1970.

    >>> moment(0)
    '1970-01-01 00:00 UTC'
    """
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC).strftime("%Y-%m-%d %H:%M UTC")
