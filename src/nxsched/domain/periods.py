"""The periods of local dates in which bookings are counted."""

from __future__ import annotations

from typing import Final, Literal

Period = Literal["day", "week", "month", "year"]

PERIODS: Final = ("day", "week", "month", "year")
"""A week begins on Monday."""
