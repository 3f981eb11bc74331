"""Whose turn it is: how an event type chooses among the hosts of a group that are free (rule 29)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, Literal

from nxsched.domain import checks
from nxsched.domain.bounds import MAX_WEIGHT
from nxsched.domain.periods import PERIODS, Period
from nxsched.errors import InvalidInput

By = Literal["least_recently_booked", "fewest_bookings", "weighted", "priority"]

STRATEGIES: Final = ("least_recently_booked", "fewest_bookings", "weighted", "priority")


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """How hosts are chosen, of more that are free than a group needs; between equals by the order of the group.

    `least_recently_booked` takes who was booked longest ago, or never. `fewest_bookings` takes who has the fewest
    bookings, of any event type, in the `day`, `week`, `month` or `year` of the start, `per`, in the event type's time
    zone. `weighted` does the same, where who has twice the weight gets twice as many; `weights` are whole numbers by
    slug, 1 for who has none. `priority` takes the first in the order of the group. Raises `InvalidInput`.
    """

    by: By = "least_recently_booked"
    per: Period = "month"
    weights: Mapping[str, int] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Check the values, and keep the weights as a mapping of our own."""
        checks.one_of("by", self.by, STRATEGIES)
        checks.one_of("per", self.per, PERIODS)
        checks.kind("weights", self.weights, Mapping)
        for slug, weight in self.weights.items():
            checks.text("weights", slug)
            checks.whole(f"weights.{slug}", weight, least=1, most=MAX_WEIGHT)
        if self.weights and self.by != "weighted":
            raise InvalidInput(field="weights", reason='are for the strategy "weighted" alone')
        object.__setattr__(self, "weights", dict(self.weights))

    @property
    def counts(self) -> bool:
        """Whether it goes by how many bookings each host has in a period."""
        return self.by in {"fewest_bookings", "weighted"}
