"""Decimal numbers as the user wrote them."""

from fractions import Fraction


def as_written(number: float) -> Fraction:
    """`number` exactly as it is written in decimal, so that 0.29 of 100 rows is 29, though 100 * 0.29 is 28.999..."""
    return Fraction(repr(float(number)))
