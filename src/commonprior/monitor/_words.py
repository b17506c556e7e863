"""Numbers as people read them: as many digits as mean something, a true minus sign, a dash for what is not there."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

MISSING = "–"
"""What stands where there is no number."""

_MINUS = "−"
_RAISED = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")


def figure(value: float, digits: int = 3) -> str:
    """Return a number to `digits` significant digits: 0.412, 12.3, 1,230, 1.2 × 10⁷."""
    if not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    exponent = math.floor(math.log10(abs(float(f"{value:.{digits - 1}e}"))))
    if not -4 <= exponent < 7:
        return power(value, digits)
    return _signed(f"{value:,.{max(0, digits - 1 - exponent)}f}")


def power(value: float, digits: int = 2) -> str:
    """Return a number as a power of ten: 10⁻⁵, 2.5 × 10⁻⁷."""
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    mantissa = mantissa.rstrip("0").rstrip(".") if "." in mantissa else mantissa
    raised = "10" + str(int(exponent)).translate(_RAISED)
    return raised if mantissa == "1" else f"{_signed(mantissa)} × {raised}"


def decimals(widths: Iterable[float], values: Iterable[float] = ()) -> int:
    """Return how many decimals are worth writing: two digits of a typical interval's half-width, else of a value."""
    half = sorted(w / 2 for w in widths if math.isfinite(w) and w > 0)
    sizes = sorted(abs(v) for v in values if math.isfinite(v) and v != 0)
    typical = half[len(half) // 2] if half else (sizes[len(sizes) // 2] / 10 if sizes else 0.01)
    return min(6, max(0, 1 - math.floor(math.log10(typical))))


def fixed(value: float, places: int, sign: bool = False) -> str:
    """Return a number with so many decimals; `sign` writes a plus too, for differences."""
    if not math.isfinite(value):
        return MISSING
    if abs(value) >= 1e7:
        return power(value, 3)
    text = f"{value:+,.{places}f}" if sign else f"{value:,.{places}f}"
    is_zero = not any(c in "123456789" for c in text)
    return text.lstrip("+-") if is_zero else _signed(text)


def interval(low: float, high: float, places: int, sign: bool = False) -> str:
    """Return [low, high], or a dash where there is none."""
    if not (math.isfinite(low) and math.isfinite(high)):
        return MISSING
    return f"[{fixed(low, places, sign)}, {fixed(high, places, sign)}]"


def seconds(value: float) -> str:
    """Return a duration: 12.3 ms, 4.56 s, 3 min 20 s, 2 h 5 min."""
    if not math.isfinite(value):
        return MISSING
    if value < 1:
        return f"{figure(value * 1000)} ms"
    if value < 60:
        return f"{figure(value)} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"


def size(value: float) -> str:
    """Return a number of bytes: 512 B, 1.23 kB, 45.6 MB."""
    if not math.isfinite(value):
        return MISSING
    for unit in ("B", "kB", "MB", "GB"):
        if value < 999.5:
            return f"{figure(value)} {unit}" if unit != "B" else f"{value:.0f} B"
        value /= 1000
    return f"{figure(value)} TB"


def percent(share: float) -> str:
    """Return a share in per cent, never 100% where it is less: 87%, 96.1%, over 99.99%."""
    if not math.isfinite(share):
        return MISSING
    if 0.9999 < share < 1:
        return "over 99.99%"
    return f"{share * 100:.{0 if share <= 0.9 or share >= 1 else 1 if share <= 0.99 else 2}f}%"


def equal(symbol: str, value: str) -> str:
    """Return symbol = value, kept on one line."""
    return f"{symbol}\u00a0=\u00a0{value}".replace(" ", "\u00a0")


def count(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun: 1 site, 1,200 sites."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence lists them: a, b and c."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _signed(text: str) -> str:
    return text.replace("-", _MINUS)
