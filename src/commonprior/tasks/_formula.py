"""Chemical formulas as element fractions: nested brackets, decimals and hydrates."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

# fmt: off
ELEMENTS = (
    "H", "He", "Li", "Be", "B", "C", "N", "O", "F", "Ne", "Na", "Mg", "Al", "Si", "P", "S", "Cl", "Ar", "K", "Ca", "Sc",
    "Ti", "V", "Cr", "Mn", "Fe", "Co", "Ni", "Cu", "Zn", "Ga", "Ge", "As", "Se", "Br", "Kr", "Rb", "Sr", "Y", "Zr",
    "Nb", "Mo", "Tc", "Ru", "Rh", "Pd", "Ag", "Cd", "In", "Sn", "Sb", "Te", "I", "Xe", "Cs", "Ba", "La", "Ce", "Pr",
    "Nd", "Pm", "Sm", "Eu", "Gd", "Tb", "Dy", "Ho", "Er", "Tm", "Yb", "Lu", "Hf", "Ta", "W", "Re", "Os", "Ir", "Pt",
    "Au", "Hg", "Tl", "Pb", "Bi", "Po", "At", "Rn", "Fr", "Ra", "Ac", "Th", "Pa", "U", "Np", "Pu", "Am", "Cm", "Bk",
    "Cf", "Es", "Fm", "Md", "No", "Lr",
)
# fmt: on
"""The elements to lawrencium, in order of atomic number: slot 0 is hydrogen."""

_SLOT = {symbol: slot for slot, symbol in enumerate(ELEMENTS)}
_NUMBER = r"\d+(?:\.\d+)?|\.\d+"
_TOKEN = re.compile(rf"([A-Z][a-z]?)({_NUMBER})?|([(\[{{])|([)\]}}])({_NUMBER})?")
_OPENS = {")": "(", "]": "[", "}": "{"}
_SUBSCRIPTS = str.maketrans("₀₁₂₃₄₅₆₇₈₉", "0123456789")


def composition(formula: str) -> Mapping[int, float]:
    """Return the fraction of each element's atoms by slot; they add up to 1.

    `CuSO4·5H2O` (also with `*`) counts its water. Raises `ValueError` with the reason.
    """
    amounts: dict[int, float] = {}
    for part in re.split(r"[·•⋅∙*]", "".join(formula.translate(_SUBSCRIPTS).split())):
        lead = re.match(_NUMBER, part)
        factor = float(lead.group()) if lead else 1.0
        for slot, amount in _atoms(part[lead.end() :] if lead else part).items():
            amounts[slot] = amounts.get(slot, 0.0) + factor * amount
    total = sum(amounts.values())
    if not 0 < total < math.inf:
        raise ValueError(f"its atoms add up to {total:g}")
    fractions = {slot: amount / total for slot, amount in amounts.items()}
    return {slot: fraction for slot, fraction in fractions.items() if fraction > 0}


def _atoms(part: str) -> dict[int, float]:
    stack: list[tuple[str, dict[int, float]]] = [("", {})]
    at = 0
    while at < len(part):
        token = _TOKEN.match(part, at)
        if token is None:
            raise ValueError(f"{part[at]!r} has no place in it")
        at = token.end()
        symbol, count, opened, closed, multiple = token.groups()
        if opened:
            stack.append((opened, {}))
            continue
        if closed:
            if stack[-1][0] != _OPENS[closed]:
                raise ValueError(f"{closed!r} closes no bracket")
            inner, factor = stack.pop()[1], float(multiple or 1)
        elif symbol in _SLOT:
            inner, factor = {_SLOT[symbol]: 1.0}, float(count or 1)
        else:
            raise ValueError(f"{symbol!r} is not an element")
        top = stack[-1][1]
        for slot, amount in inner.items():
            top[slot] = top.get(slot, 0.0) + factor * amount
    if len(stack) > 1:
        raise ValueError(f"{stack[-1][0]!r} is never closed")
    if not stack[0][1]:
        raise ValueError("it names no element")
    return stack[0][1]
