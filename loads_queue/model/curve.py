"""How many arrivals a rate has brought by when, and when it brings the next: exact, both ways, in integers.

``Curve`` is the integral L(t) of a rate that is made of straight pieces, times a scale S, so that fractions of an
arrival can be asked for in whole numbers: S·L(t) of a piece is a polynomial of degree two with integer coefficients
over one denominator, and so is its inverse but for one square root, whose floor ``math.isqrt`` gives exactly.
Reals are rounded once, at the end, to whole nanoseconds (down) or whole arrivals (up).
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from fractions import Fraction
from math import ceil, isqrt, lcm
from typing import NamedTuple

from .stages import NANOS, NEVER, Piece


class _Polynomial(NamedTuple):
    """S·L(t) = (c0 + c1·u + c2·u²) / denominator, with u = t - start."""

    c0: int
    c1: int
    c2: int
    denominator: int

    def at(self, u: int) -> int:
        return self.c0 + u * (self.c1 + u * self.c2)


class Curve:
    """The integral of a rate over time; asking it costs a bisection and a division, on ramps a square root too."""

    __slots__ = ("_bounds", "_inverses", "_polynomials", "_starts", "end_ns")

    def __init__(self, pieces: Sequence[Piece], scale: int) -> None:
        """``pieces`` follow one another from 0; their values are arrivals a second."""
        self.end_ns = pieces[-1].end_ns if pieces else 0
        self._starts = [piece.start_ns for piece in pieces]
        self._polynomials: list[_Polynomial] = []
        self._bounds: list[int] = []
        self._inverses: list[tuple[int, int, int, int, int, int]] = []
        total = Fraction(0)
        for piece in pieces:
            polynomial = _integral(piece, total, scale)
            self._polynomials.append(polynomial)
            area = (piece.low + piece.high) * (piece.end_ns - piece.start_ns) * scale / (2 * NANOS)
            total += area
            if area:
                # x < S·L(end) is x < ceil(S·L(end)) for a whole x. A piece of rate 0 ends where the one before it
                # did, so nothing is ever due in it: what stands at its level waits for the next (L(t) > n, strictly).
                self._bounds.append(ceil(total))
                self._inverses.append(_inverse(polynomial, piece.start_ns))

    def below(self, t_ns: int) -> int:
        """How many whole x >= 0 there are with x < S·L(t)."""
        numerator, denominator = self._exact(t_ns)
        return -(-numerator // denominator)

    def passed(self, x: int) -> int:
        """The floor of the time from which on S·L(t) > x, in ns; NEVER where that does not come."""
        index = bisect_right(self._bounds, x)
        if index == len(self._bounds):
            return NEVER
        a, b, c, sign, divisor, start = self._inverses[index]
        if not sign:
            return (a * x + b) // c
        if sign > 0:
            return start + (isqrt(a * x + b) - c) // divisor
        # The floor of c - sqrt(r) is c - ceil(sqrt(r)), and r > 0 here, since the rate only ends at 0 at S·L(end).
        return start + (c - isqrt(a * x + b - 1) - 1) // divisor

    def reached(self, x: int) -> int:
        """The first whole nanosecond with S·L(t) >= x; NEVER where it does not come."""

        def enough(t_ns: int) -> bool:
            numerator, denominator = self._exact(t_ns)
            return numerator >= x * denominator

        return bisect_left(range(self.end_ns), True, key=enough) if enough(self.end_ns) else NEVER

    def _exact(self, t_ns: int) -> tuple[int, int]:
        """S·L(t) as numerator and denominator."""
        index = bisect_right(self._starts, t_ns) - 1
        if index < 0:
            return 0, 1
        polynomial = self._polynomials[index]
        return polynomial.at(min(t_ns, self.end_ns) - self._starts[index]), polynomial.denominator


def _integral(piece: Piece, before: Fraction, scale: int) -> _Polynomial:
    slope = (piece.high - piece.low) / (piece.end_ns - piece.start_ns)
    terms = (before, piece.low * scale / NANOS, slope * scale / (2 * NANOS))
    denominator = lcm(*(term.denominator for term in terms))
    c0, c1, c2 = (term.numerator * (denominator // term.denominator) for term in terms)
    return _Polynomial(c0, c1, c2, denominator)


def _inverse(polynomial: _Polynomial, start: int) -> tuple[int, int, int, int, int, int]:
    """What ``passed`` needs: c0 + c1·u + c2·u² = x·denominator, solved for u up to the last rounding."""
    c0, c1, c2, denominator = polynomial
    if c2 == 0:
        return denominator, start * c1 - c0, c1, 0, 0, 0
    # u = (±sqrt(c1² + 4·c2·(x·denominator - c0)) ∓ c1) / (2·|c2|): on a falling ramp the earlier of the two roots.
    return 4 * c2 * denominator, c1 * c1 - 4 * c2 * c0, c1, 1 if c2 > 0 else -1, 2 * abs(c2), start
