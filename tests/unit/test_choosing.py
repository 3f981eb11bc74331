"""Whose turn it is: which hosts a booking gets of those that can take it, and what is said of it (rule 29)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from datetime import timedelta
from itertools import pairwise
from typing import Any, NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nxsched import EventType, HostGroup, InvalidInput, Strategy
from nxsched.domain.strategies import STRATEGIES, By
from nxsched.service.choosing import Choice, Held, Turns, choose, is_pool

HALF = timedelta(minutes=30)
SLUGS = [f"h{n}" for n in range(12)]
KINDS: tuple[By, ...] = ("least_recently_booked", "fewest_bookings", "weighted", "priority")


def event_type(*groups: HostGroup | str, by: Strategy | By = "least_recently_booked") -> EventType:
    """An event type with groups, or one group of which one is needed."""
    hosts: Any = groups
    return EventType(duration=HALF, hosts=hosts, strategy=by)


def counted_or_latest(event_type: EventType, found: dict[str, int]) -> Turns:
    """What a strategy goes by: how many, or when last."""
    return Turns(counts=found) if event_type.chosen_by.counts else Turns(latest=found)


def chosen(
    event_type: EventType,
    able: str,
    *,
    host: str | None = None,
    preferred: str | None = None,
    held: Held | None = None,
    turns: dict[str, int] | None = None,
) -> Choice:
    found = choose(
        event_type,
        able.split(),
        counted_or_latest(event_type, turns or {}),
        host,
        preferred=(able if preferred is None else preferred).split(),
        held=Held() if held is None else held,
    )
    assert found is not None
    return found


def test_the_strategies_are_those_that_are_tested() -> None:
    assert KINDS == STRATEGIES


@pytest.mark.parametrize(
    ("by", "turns", "host", "because"),
    [
        ("least_recently_booked", {"ada": 5, "bob": 4, "cyd": 6}, "bob", "least recently booked of 3 that were free"),
        ("least_recently_booked", {"ada": 5, "bob": 4}, "cyd", "least recently booked of 3 that were free"),
        (
            "fewest_bookings",
            {"ada": 2, "bob": 1, "cyd": 3},
            "bob",
            "fewest bookings in the month of 3 that were free (ada has 2, bob has 1, cyd has 3)",
        ),
        (
            Strategy(by="fewest_bookings", per="day"),
            {"ada": 2, "bob": 1},
            "cyd",
            "fewest bookings in the day of 3 that were free (ada has 2, bob has 1, cyd has 0)",
        ),
        (
            Strategy(by="weighted", per="week", weights={"ada": 3}),
            {"ada": 4, "bob": 1, "cyd": 2},
            "ada",
            "fewest bookings in the week by weight of 3 that were free (ada has 4, bob has 1, cyd has 2)",
        ),
        (
            Strategy(by="weighted", per="year", weights={"ada": 3}),
            {"ada": 6, "bob": 1, "cyd": 2},
            "bob",
            "fewest bookings in the year by weight of 3 that were free (ada has 6, bob has 1, cyd has 2)",
        ),
        ("priority", {"ada": 9}, "ada", "first in the order of the group of 3 that were free"),
    ],
)
def test_each_strategy_takes_whose_turn_it_is_and_says_why(
    by: Strategy | By, turns: dict[str, int], host: str, because: str
) -> None:
    found = chosen(event_type("ada", "bob", "cyd", by=by), "ada bob cyd", turns=turns)
    assert found == Choice((host,), because)


@pytest.mark.parametrize("by", KINDS)
def test_between_equals_the_first_of_the_group_is_taken(by: By) -> None:
    assert chosen(event_type("bob", "ada", "cyd", by=by), "ada bob cyd").hosts == ("bob",)
    assert chosen(event_type("bob", "ada", "cyd", by=by), "ada cyd").hosts == ("ada",)


@pytest.mark.parametrize("by", KINDS)
def test_where_nobody_else_was_free_that_is_the_reason(by: By) -> None:
    assert chosen(event_type("ada", "bob", by=by), "bob", turns={"bob": 9}) == Choice(("bob",), "nobody else was free")


@pytest.mark.parametrize("by", KINDS)
def test_where_there_is_nothing_to_choose_there_is_no_reason(by: By) -> None:
    assert chosen(event_type("ada", by=by), "ada") == Choice(("ada",), None)
    both = event_type(HostGroup(members=["ada", "bob"], need="all"), by=by)
    assert chosen(both, "bob ada") == Choice(("ada", "bob"), None)
    assert chosen(both, "bob ada", host="bob") == Choice(("ada", "bob"), None)
    assert not is_pool(both)


@pytest.mark.parametrize("by", KINDS)
def test_who_was_asked_for_comes_before_whose_turn_it_is(by: By) -> None:
    pool = event_type("ada", "bob", "cyd", by=by)
    assert is_pool(pool)
    assert chosen(pool, "ada bob cyd", host="cyd", turns={"cyd": 9}) == Choice(("cyd",), "cyd was asked for")
    two = event_type(HostGroup(members=["ada", "bob", "cyd"], need=2), by=by)
    found = chosen(two, "ada bob cyd", host="cyd", turns={"cyd": 9})
    assert found.hosts == ("ada", "cyd")
    assert found.because is not None
    assert found.because.startswith("cyd was asked for, the rest ")


def test_who_was_asked_for_and_is_not_free_is_replaced_by_nobody() -> None:
    pool = event_type("ada", "bob")
    assert choose(pool, ["bob"], Turns(), "ada", preferred=["bob"], held=Held()) is None


def test_who_held_it_comes_before_whose_turn_it_is_and_after_who_was_asked_for() -> None:
    pool = event_type("ada", "bob", "cyd", by="fewest_bookings")
    assert chosen(pool, "ada bob cyd", held=Held(["bob"]), turns={"bob": 9}) == Choice(("bob",), "held it before")
    assert chosen(pool, "ada bob cyd", held=Held(["bob"], "was there"), turns={"bob": 9}) == Choice(
        ("bob",), "was there"
    )
    assert chosen(pool, "ada bob cyd", held=Held(["bob"]), host="cyd", turns={"cyd": 9}) == Choice(
        ("cyd",), "cyd was asked for"
    )
    assert chosen(pool, "ada cyd", held=Held(["bob"]), turns={"ada": 1}).hosts == ("cyd",)


@pytest.mark.parametrize("by", KINDS)
def test_who_is_preferred_comes_before_whose_turn_it_is(by: By) -> None:
    assert chosen(event_type("ada", "bob", by=by), "ada bob", preferred="bob", turns={"bob": 9}).hosts == ("bob",)


def test_each_group_has_its_reason_and_groups_without_a_choice_have_none() -> None:
    several = event_type(
        HostGroup(members=["cyd"]),
        HostGroup(members=["ada", "bob"]),
        HostGroup(members=["room-1", "room-2"]),
        by="priority",
    )
    found = chosen(several, "cyd ada bob room-2")
    assert found == Choice(
        ("cyd", "ada", "room-2"), "first in the order of the group of 2 that were free; nobody else was free"
    )
    asked = chosen(several, "cyd ada bob room-2", host="bob")
    assert asked == Choice(("cyd", "bob", "room-2"), "bob was asked for; nobody else was free")


def test_a_group_that_falls_short_leaves_nothing() -> None:
    several = event_type(HostGroup(members=["ada", "bob"]), HostGroup(members=["cyd", "dan"], need=2))
    assert choose(several, ["ada", "bob", "cyd"], Turns(), None, preferred=[], held=Held()) is None


def test_a_reason_gives_the_numbers_of_ten_hosts_at_most() -> None:
    found = chosen(event_type(*SLUGS, by="fewest_bookings"), " ".join(SLUGS))
    assert found.because is not None
    assert found.because.count(" has ") == 10


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"by": "at_random"}, "by"),
        ({"by": None}, "by"),
        ({"by": ["priority"]}, "by"),
        ({"per": "hour"}, "per"),
        ({"per": None}, "per"),
        ({"by": "weighted", "weights": [("ada", 1)]}, "weights"),
        ({"by": "weighted", "weights": None}, "weights"),
        ({"by": "weighted", "weights": {1: 1}}, "weights"),
        ({"by": "weighted", "weights": {"": 1}}, "weights"),
        ({"by": "weighted", "weights": {"ada": 0}}, "weights.ada"),
        ({"by": "weighted", "weights": {"ada": -1}}, "weights.ada"),
        ({"by": "weighted", "weights": {"ada": 1001}}, "weights.ada"),
        ({"by": "weighted", "weights": {"ada": True}}, "weights.ada"),
        ({"by": "weighted", "weights": {"ada": 1.5}}, "weights.ada"),
        *(({"by": by, "weights": {"ada": 1}}, "weights") for by in KINDS if by != "weighted"),
    ],
    ids=str,
)
def test_a_strategy_that_cannot_be_is_refused(values: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        Strategy(**values)
    assert caught.value.field == field


@pytest.mark.parametrize(
    ("strategy", "field"),
    [
        ("at_random", "strategy"),
        (None, "strategy"),
        ({"by": "priority"}, "strategy"),
        (Strategy(by="weighted", weights={"ada": 1, "zoe": 2}), "strategy.weights.zoe"),
    ],
    ids=str,
)
def test_an_event_type_refuses_what_is_no_strategy_and_weights_of_strangers(strategy: Any, field: str) -> None:  # noqa: ANN401 - anything
    with pytest.raises(InvalidInput) as caught:
        EventType(duration=HALF, hosts=["ada", "bob"], strategy=strategy)
    assert caught.value.field == field


def test_the_least_and_the_most_weight_are_taken_and_kept_apart_from_the_callers_own() -> None:
    weights = {"ada": 1, "bob": 1000}
    strategy = Strategy(by="weighted", weights=weights)
    weights["ada"] = 7
    assert strategy.weights == {"ada": 1, "bob": 1000}


def test_the_name_of_a_strategy_is_short_for_it() -> None:
    for by in KINDS:
        assert event_type("ada", by=by).chosen_by == Strategy(by=by)
    assert EventType(duration=HALF, hosts=["ada"]).chosen_by == Strategy(by="least_recently_booked", per="month")


class Case(NamedTuple):
    """What may be chosen from."""

    event_type: EventType
    able: list[str]
    turns: dict[str, int]
    host: str | None
    preferred: list[str]
    held: Held

    def choice(self, *, able: Collection[str] | None = None, turns: dict[str, int] | None = None) -> Choice | None:
        return choose(
            self.event_type,
            self.able if able is None else able,
            counted_or_latest(self.event_type, self.turns if turns is None else turns),
            self.host,
            preferred=self.preferred,
            held=self.held,
        )


@st.composite
def cases(draw: st.DrawFn, kinds: Sequence[By] = KINDS) -> Case:
    """Groups of any shape, of which some can, with any past."""
    slugs = draw(st.permutations(SLUGS))[: draw(st.integers(1, len(SLUGS)))]
    cuts = sorted({0, len(slugs), *draw(st.sets(st.integers(0, len(slugs)), max_size=2))})
    parts = [slugs[a:b] for a, b in pairwise(cuts)]
    groups = [HostGroup(members=part, need=draw(st.integers(1, len(part)))) for part in parts]
    by = draw(st.sampled_from(kinds))
    weights = draw(st.dictionaries(st.sampled_from(slugs), st.integers(1, 1000))) if by == "weighted" else {}
    some = st.lists(st.sampled_from(slugs), unique=True)
    return Case(
        EventType(duration=HALF, hosts=groups, strategy=Strategy(by=by, weights=weights)),
        [slug for slug in slugs if draw(st.integers(0, 3))],
        draw(st.dictionaries(st.sampled_from(slugs), st.integers(0, 20))),
        draw(st.none() | st.sampled_from(slugs)),
        draw(some),
        Held(draw(some)),
    )


@given(cases())
def test_groups_are_filled_by_who_is_able_in_their_order_or_nobody_is_chosen(case: Case) -> None:
    able, host = {*case.able}, case.host
    found = case.choice()
    short = any(len(able & {*group.members}) < group.needed for group in case.event_type.groups)
    assert (found is None) == (short or (host is not None and host not in able))
    if found is None:
        return
    rest = found.hosts
    for group in case.event_type.groups:
        mine, rest = rest[: group.needed], rest[group.needed :]
        assert able.issuperset(mine)
        assert [*mine] == [slug for slug in group.members if slug in mine]
        assert len(mine) == group.needed
    assert rest == ()
    assert host is None or host in found.hosts
    assert (found.because is not None) == is_pool(case.event_type)


@given(cases(), st.randoms(use_true_random=False))
def test_the_same_is_chosen_in_whatever_order_it_is_told(case: Case, random: Any) -> None:  # noqa: ANN401 - hypothesis has no type for it
    able, turns = [*case.able], [*case.turns.items()]
    random.shuffle(able)
    random.shuffle(turns)
    assert case.choice() == case.choice(able={*able}, turns=dict(turns)) == case.choice(able=able)


@given(cases())
def test_nobody_is_passed_over_who_comes_first(case: Case) -> None:
    """Whoever is left out comes after whoever is taken, by all that is compared, from the first to the last."""
    found = case.choice()
    if found is None:
        return
    by, places = case.event_type.chosen_by, [slug for group in case.event_type.groups for slug in group.members]

    def place(slug: str) -> tuple[object, ...]:
        have = case.turns.get(slug, 0)
        turn: float = {
            "least_recently_booked": case.turns.get(slug, -1),
            "fewest_bookings": have,
            "weighted": (have + 1) / by.weights.get(slug, 1),
            "priority": 0,
        }[by.by]
        return slug != case.host, slug not in case.held.hosts, slug not in case.preferred, turn, places.index(slug)

    for group in case.event_type.groups:
        out = [slug for slug in group.members if slug in case.able and slug not in found.hosts]
        last = max(place(slug) for slug in found.hosts if slug in group.members)
        assert all(last < place(slug) for slug in out)


@given(cases(kinds=("priority",)), st.dictionaries(st.sampled_from(SLUGS), st.integers(0, 20)))
def test_priority_is_the_order_of_the_group_whatever_was_booked(case: Case, turns: dict[str, int]) -> None:
    plain = case._replace(host=None, held=Held(), preferred=[])
    found = plain.choice(turns=turns)
    assert found == plain.choice()
    if found is not None:
        for group in case.event_type.groups:
            free = [slug for slug in group.members if slug in case.able]
            assert [slug for slug in found.hosts if slug in group.members] == free[: group.needed]


def booked(by: Strategy, members: Sequence[str], need: int, times: int) -> list[Counter[str]]:
    """What each host has after each booking, where all are always free."""
    pool = event_type(HostGroup(members=members, need=need), by=by)
    have: Counter[str] = Counter()
    members_at_most = 100
    latest: dict[str, int] = {}
    found = []
    for no in range(times):
        choice = choose(pool, members, Turns(have, latest), None, preferred=members, held=Held())
        assert choice is not None
        have.update(choice.hosts)
        latest |= {slug: no * members_at_most + rank for slug, rank in zip(choice.hosts, choice.ranks, strict=True)}
        found.append(have.copy())
    return found


@given(st.sampled_from(["fewest_bookings", "least_recently_booked", "weighted"]), st.integers(1, 8), st.data())
def test_where_all_are_always_free_nobody_has_two_more_than_another(by: By, members: int, data: st.DataObject) -> None:
    slugs = SLUGS[:members]
    need = data.draw(st.integers(1, members))
    for have in booked(Strategy(by=by), slugs, need, 40):
        assert max(have[slug] for slug in slugs) - min(have[slug] for slug in slugs) <= 1


@given(st.lists(st.integers(1, 30), min_size=1, max_size=6))
def test_where_all_are_always_free_shares_are_those_of_the_weights(weights: list[int]) -> None:
    """Nobody falls behind their share by a whole booking; and whenever shares are whole numbers, all have theirs."""
    shares = dict(zip(SLUGS, weights, strict=False))
    whole = sum(weights)
    for no, have in enumerate(booked(Strategy(by="weighted", weights=shares), [*shares], 1, 2 * whole), start=1):
        assert all(have[slug] >= no * weight // whole for slug, weight in shares.items())
        if no % whole == 0:
            assert have == {slug: no // whole * weight for slug, weight in shares.items()}


def test_the_most_weight_against_the_least_comes_in_a_row() -> None:
    have = booked(Strategy(by="weighted", weights={"ada": 1000}), ["ada", "bob"], 1, 1001)
    assert have[998] == {"ada": 999}
    assert have[999] == {"ada": 999, "bob": 1}  # of equals, who was booked longest ago
