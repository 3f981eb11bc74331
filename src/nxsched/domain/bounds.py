"""How much one question may ask for. An error that meets a bound names it."""

from __future__ import annotations

from typing import Final

MAX_STARTS: Final = 100_000
"""Starts in one answer, unless the question sets a `limit`."""

MAX_LIMIT: Final = 10_000_000
"""The largest `limit`."""

MAX_RANGE_DAYS: Final = 36_525
"""Days between the two ends of a range: a hundred years."""

MAX_RULE_OCCURRENCES: Final = 10_000
"""Occurrences of one recurrence rule that may have to be looked at for one range."""

MAX_RULE: Final = 1_000
"""Characters in a recurrence rule."""

MAX_RULE_TIMES: Final = 288
"""Times of a day that BYHOUR, BYMINUTE and BYSECOND of one rule give: one every five minutes."""

MAX_GROUPS: Final = 20
"""Host groups of one event type."""

MAX_WORK: Final = 1_000_000
"""Windows of hours and occurrences of blocked periods, of all hosts together, that one question may look at."""

MAX_LIMITS: Final = 20
"""Limits of one event type or host."""

MAX_MEMBERS: Final = 1_000
"""Members of all host groups of one event type."""

MAX_MINUTES: Final = 366 * 24 * 60
"""Minutes in a duration, a step, a buffer or a notice: a leap year."""

MAX_CAPACITY: Final = 1_000_000
"""Seats of one occurrence, and the largest count or total of a limit."""

MAX_TEXT: Final = 200
"""Characters in a slug, an id or a name."""

MAX_PROSE: Final = 10_000
"""Characters in a description."""

MAX_ANSWER: Final = 5_000
"""Characters in an answer of the attendee."""

MAX_QUESTIONS: Final = 50
"""Questions of one event type."""

MAX_CHOICES: Final = 100
"""Choices of one question."""

MAX_WEIGHT: Final = 1_000
"""The largest weight of a host."""

MAX_SERIES: Final = 366
"""Bookings of one series: a day each of a leap year."""

MAX_ATTENDEE_HOLDS: Final = 100
"""Holds of one attendee that stand at a time, in one tenant."""

MAX_DURATIONS: Final = 20
"""Durations to choose from, the event type's own included."""

MAX_JSON: Final = 20_000
"""Characters of JSON in a booking's metadata, a host's attributes, a tenant's settings."""

MAX_NESTING: Final = 50
"""Objects and lists of such JSON inside one another."""

MAX_NUMBER: Final = 10**15
"""The largest number in an answer."""

MAX_PERIODS: Final = 10_000
"""Busy periods that one call can report for a host."""

MAX_HOLD_MINUTES: Final = 7 * 24 * 60
"""Minutes for which a hold can last: a week."""

MAX_OPEN_HOLDS: Final = 10_000
"""Holds of one tenant that stand at a time."""

MAX_PAGE: Final = 1_000
"""Bookings on one page."""

MAX_KEY_DAYS: Final = 366
"""Days for which an idempotency key is remembered."""

FIRST_YEAR: Final = 1900
LAST_YEAR: Final = 8999
"""Years in which an instant may lie. Dates alone may go to 9999-12-31, which many use for "for ever"."""
