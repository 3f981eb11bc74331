"""Tokens of links: their form, what is in them, the secrets they are signed with, and that none can be changed."""

from __future__ import annotations

import base64
import hashlib
import hmac
import traceback
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Connection

from nxsched import InvalidInput, InvalidToken, NxschedError
from nxsched.domain.commands import MakeToken
from nxsched.errors import BookingNotFound
from nxsched.service import tokens
from nxsched.service.tokens import LEAST_SECRET, Keyring, Token, read
from nxsched.service.tools import Tools

NEW, OLD = "new secret of more than 16", "old secret of more than 16"
KEYRING = Keyring([NEW, OLD])
NOBODY = cast("Connection", None)
"""Nothing is asked of it here."""

BOOKING = "018f0c4a-6d1e-7a3b-9c55-0123456789ab"
NONCE = "0123456789abcdef0123456789abcdef"
NOW = datetime(2026, 3, 2, 8, tzinfo=UTC)
UNTIL = int(NOW.timestamp()) + 3600
TOKEN = KEYRING.sign("acme", BOOKING, NONCE, UNTIL)
ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


def accepted(
    text: str,
    monkeypatch: pytest.MonkeyPatch,
    keyring: Keyring = KEYRING,
    *,
    tenant: str = "acme",
    found: tuple[str, str] | None = (NONCE, "confirmed"),
    now: datetime = NOW,
) -> bool:
    """Whether a token is good, with what the database says of its booking."""
    asked: list[str] = []

    def fetch(_connection: object, of: str, id_: str, at: datetime) -> tuple[str, str, datetime] | None:
        assert (of, at) == (tenant, now)
        asked.append(id_)
        return (*found, at) if found and id_ == BOOKING else None

    with monkeypatch.context() as patched:
        patched.setattr(tokens, "fetch_nonce", fetch)
        try:
            tokens.check(NOBODY, read(text), keyring, Tools(tenant=tenant, now=now))
        except InvalidToken as error:
            refused = str(error), error.args, vars(error)
        else:
            assert asked == [BOOKING]
            return True
    assert refused == (str(InvalidToken()), InvalidToken().args, {})
    return False


# --- its form --------------------------------------------------------------------------------------------------------


def test_a_token_is_eighty_characters_that_stand_in_an_address_as_they_are() -> None:
    assert len(TOKEN) == 80
    assert set(TOKEN) <= {*ALPHABET}


def test_a_token_taken_apart_holds_the_key_the_booking_and_the_end() -> None:
    found = read(TOKEN)
    assert (found.booking, found.until) == (BOOKING, UNTIL)
    assert found.key_id == read(KEYRING.sign("other", str(UUID(int=0)), "", 0)).key_id
    assert len(found.key_id) == 4


def test_neither_the_secret_nor_the_nonce_nor_the_tenant_stands_in_a_token() -> None:
    raw = base64.urlsafe_b64decode(TOKEN)
    for word in (NEW, OLD, NONCE, "acme", "manage"):
        assert word.encode() not in raw
    assert bytes.fromhex(NONCE) not in raw


def test_the_mac_is_hmac_with_sha_256_of_all_that_it_covers() -> None:
    """Written out once more, so that no part of it can get lost; other versions of the library must accept it."""
    body = base64.urlsafe_b64decode(TOKEN)[:28]
    said = f'["nxsched", "manage", "acme", "{NONCE}", "{body.hex()}"]'
    assert read(TOKEN).mac == hmac.new(NEW.encode(), said.encode(), hashlib.sha256).digest()
    assert body == read(TOKEN).key_id + UUID(BOOKING).bytes + UNTIL.to_bytes(8, "big")


def test_the_purpose_tells_tokens_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(tokens, "MANAGE", ("subscribe",))
        other = KEYRING.sign("acme", BOOKING, NONCE, UNTIL, tokens.MANAGE)
        assert accepted(other, monkeypatch)
    assert other != TOKEN
    assert not accepted(other, monkeypatch)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "x",
        TOKEN[:-1],
        TOKEN[1:],
        TOKEN + "A",
        TOKEN + "=",
        TOKEN + "====",
        TOKEN + "\n",
        " " + TOKEN,
        TOKEN[:40] + "\n" + TOKEN[40:],
        TOKEN[:40] + "\x00" + TOKEN[41:],
        TOKEN[:-1] + "\ud800",
        TOKEN[:-1] + "é",
        TOKEN * 2,
        "A" * 80,
        "A" * 1_000_000,
        "%s" * 40,
        "=" * 80,
        BOOKING,
    ],
)
def test_a_text_that_is_no_token_is_refused_as_a_wrong_one_is(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not accepted(text, monkeypatch)


@pytest.mark.parametrize("value", [None, 5, b"x" * 80, TOKEN.encode(), [TOKEN], read(TOKEN)])
def test_what_is_no_text_is_a_mistake_of_the_caller(value: Any) -> None:  # noqa: ANN401
    with pytest.raises(InvalidInput) as caught:
        read(value)
    assert caught.value.field == "token"
    assert TOKEN not in str(caught.value)


def test_the_other_alphabet_of_base64_makes_no_second_token(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a list of tokens that were used up could be passed by with another spelling."""
    marked = next(
        found for until in range(UNTIL, UNTIL + 999) if "-" in (found := KEYRING.sign("acme", BOOKING, NONCE, until))
    )
    assert accepted(marked, monkeypatch)
    assert not accepted(marked.replace("-", "+"), monkeypatch)


# --- tampering -------------------------------------------------------------------------------------------------------


@given(place=st.integers(0, 59), change=st.integers(1, 255))
def test_no_byte_of_a_token_can_be_changed(place: int, change: int) -> None:
    raw = bytearray(base64.urlsafe_b64decode(TOKEN))
    raw[place] ^= change
    with pytest.MonkeyPatch.context() as patch:
        assert not accepted(base64.urlsafe_b64encode(raw).decode(), patch)


def test_no_bit_of_a_token_can_be_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    raw = base64.urlsafe_b64decode(TOKEN)
    for bit in range(8 * len(raw)):
        other = (int.from_bytes(raw, "big") ^ 1 << bit).to_bytes(len(raw), "big")
        assert not accepted(base64.urlsafe_b64encode(other).decode(), monkeypatch), bit


@given(place=st.integers(0, 79), letter=st.sampled_from(ALPHABET))
def test_no_letter_of_a_token_can_be_changed(place: int, letter: str) -> None:
    other = TOKEN[:place] + letter + TOKEN[place + 1 :]
    with pytest.MonkeyPatch.context() as patch:
        assert accepted(other, patch) == (other == TOKEN)


@given(raw=st.binary(min_size=60, max_size=60))
def test_nobody_guesses_a_token(raw: bytes) -> None:
    with pytest.MonkeyPatch.context() as patch:
        assert not accepted(base64.urlsafe_b64encode(raw).decode(), patch)


@given(st.binary(max_size=100))
def test_whatever_is_read_is_written_the_same_way(raw: bytes) -> None:
    text = base64.urlsafe_b64encode(raw).decode().rstrip("=")
    if len(raw) == 60:
        found = read(text)
        assert found.body + found.mac == raw
    else:
        with pytest.raises(InvalidToken):
            read(text)


TEXTS = st.text(st.characters(codec="utf-8"), max_size=12)


@given(one=st.tuples(TEXTS, TEXTS), other=st.tuples(TEXTS, TEXTS))
def test_a_token_of_another_tenant_or_with_another_nonce_has_another_mac(
    one: tuple[str, str], other: tuple[str, str]
) -> None:
    """Also where the two run into one another: `ab`, `c` and `a`, `bc`."""
    macs = {read(KEYRING.sign(tenant, BOOKING, nonce, UNTIL)).mac for tenant, nonce in (one, other)}
    assert len(macs) == (1 if one == other else 2)


def test_a_token_is_good_for_its_tenant_its_booking_and_its_nonce(monkeypatch: pytest.MonkeyPatch) -> None:
    assert accepted(TOKEN, monkeypatch)
    assert not accepted(TOKEN, monkeypatch, tenant="zeta")
    assert not accepted(TOKEN, monkeypatch, found=(NONCE[::-1], "confirmed"))
    assert not accepted(TOKEN, monkeypatch, found=("", "confirmed"))
    assert not accepted(TOKEN, monkeypatch, found=None)
    assert not accepted(KEYRING.sign("acme", BOOKING, NONCE, UNTIL), monkeypatch, Keyring())


@pytest.mark.parametrize("case", ["good", "wrong", "unknown booking", "unknown key"])
def test_macs_and_key_ids_are_compared_in_constant_time_whatever_is_wrong(
    case: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    compared: list[tuple[int, int]] = []

    def compare(one: bytes, other: bytes) -> bool:
        compared.append((len(one), len(other)))
        return hmac.compare_digest(one, other)

    class Watched:
        compare_digest, digest = staticmethod(compare), hmac.digest

    monkeypatch.setattr(tokens, "hmac", Watched)
    strangers = Keyring(["a third secret of more than 16"]).sign("acme", BOOKING, NONCE, UNTIL)
    text = {"wrong": TOKEN[:-2] + "AA", "unknown key": strangers}.get(case, TOKEN)
    found = None if case == "unknown booking" else (NONCE, "confirmed")
    assert accepted(text, monkeypatch, found=found) == (case == "good")
    assert compared[-1] == (32, 32)
    assert {*compared[:-1]} == {(4, 4)}


def test_nothing_is_signed_with_an_empty_secret_or_an_empty_nonce(monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in for a key or a booking that is not there must open nothing."""
    raw = base64.urlsafe_b64decode(TOKEN)
    for key_id in (raw[:4], bytes(4), hmac.digest(b"", b"nxsched key id", "sha256")[:4]):
        body = key_id + raw[4:28]
        for nonce in ("", NONCE):
            said = f'["nxsched", "manage", "acme", "{nonce}", "{body.hex()}"]'.encode()
            forged = base64.urlsafe_b64encode(body + hmac.digest(b"", said, "sha256")).decode()
            assert not accepted(forged, monkeypatch)
            assert not accepted(forged, monkeypatch, found=None)
            assert not accepted(forged, monkeypatch, Keyring())


@pytest.mark.parametrize("status", ["held", "released", "expired", "cancelled", "declined"])
def test_a_link_ends_with_its_booking(status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert not accepted(TOKEN, monkeypatch, found=(NONCE, status))


@pytest.mark.parametrize("status", ["pending", "confirmed", "completed", "no_show"])
def test_a_link_stands_with_its_booking(status: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert accepted(TOKEN, monkeypatch, found=(NONCE, status))


def test_a_token_ends_at_its_last_second(monkeypatch: pytest.MonkeyPatch) -> None:
    end = datetime.fromtimestamp(UNTIL, UTC)
    assert accepted(TOKEN, monkeypatch, now=end - timedelta(microseconds=1))
    assert not accepted(TOKEN, monkeypatch, now=end)
    assert not accepted(TOKEN, monkeypatch, now=end + timedelta(days=999))


# --- making one ------------------------------------------------------------------------------------------------------


def made(
    monkeypatch: pytest.MonkeyPatch,
    expires: Any,  # noqa: ANN401 - what a caller may give
    found: tuple[str, str] | None = (NONCE, "confirmed"),
) -> str:
    with monkeypatch.context() as patched:
        patched.setattr(tokens, "fetch_nonce", lambda *_: found and (*found, NOW))
        command = MakeToken(id=BOOKING, expires=expires)
        return tokens.make(NOBODY, command, Tools(tenant="acme", now=NOW), KEYRING)


def test_a_token_is_made_for_a_second_to_come(monkeypatch: pytest.MonkeyPatch) -> None:
    assert made(monkeypatch, datetime.fromtimestamp(UNTIL, UTC)) == TOKEN
    assert accepted(made(monkeypatch, NOW + timedelta(seconds=1)), monkeypatch)
    far = made(monkeypatch, datetime(8999, 12, 31, 23, 59, 59, tzinfo=UTC))
    assert accepted(far, monkeypatch, now=datetime(8999, 12, 31, 23, 59, 58, tzinfo=UTC))


@pytest.mark.parametrize(
    "expires",
    [
        NOW,
        NOW - timedelta(seconds=1),
        NOW + timedelta(microseconds=1),
        NOW.replace(tzinfo=None) + timedelta(days=1),
        NOW.date(),
        UNTIL,
        None,
        "2027-01-01",
        timedelta(days=1),
    ],
)
def test_an_end_that_no_token_can_have_is_refused(expires: object, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput) as caught:
        made(monkeypatch, expires)
    assert caught.value.field == "expires"


def test_a_token_needs_a_booking(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(BookingNotFound):
        made(monkeypatch, NOW + timedelta(days=1), found=None)


# --- secrets ---------------------------------------------------------------------------------------------------------


def test_the_first_secret_signs_and_every_one_is_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    before = Keyring([OLD]).sign("acme", BOOKING, NONCE, UNTIL)
    assert before != TOKEN == Keyring([NEW]).sign("acme", BOOKING, NONCE, UNTIL)
    for keyring in (KEYRING, Keyring([OLD, NEW]), Keyring(["a third secret of 24 letters", OLD, NEW])):
        assert accepted(before, monkeypatch, keyring)
        assert accepted(TOKEN, monkeypatch, keyring)
    assert not accepted(before, monkeypatch, Keyring([NEW]))
    assert not accepted(TOKEN, monkeypatch, Keyring([OLD]))


def test_a_key_id_tells_nothing_of_its_secret() -> None:
    assert read(TOKEN).key_id not in {NEW.encode()[:4], hashlib.sha256(NEW.encode()).digest()[:4]}


@pytest.mark.parametrize(
    ("secrets", "field"),
    [
        (None, "secrets"),
        (5, "secrets"),
        ([None], "secrets[0]"),
        ([NEW, 5], "secrets[1]"),
        ([""], "secrets[0]"),
        ([NEW, "x" * (LEAST_SECRET - 1)], "secrets[1]"),
        ([NEW, OLD, NEW], "secrets[2]"),
    ],
)
def test_secrets_that_do_not_serve_are_refused_by_their_place(secrets: Any, field: str) -> None:  # noqa: ANN401
    with pytest.raises(InvalidInput) as caught:
        Keyring(secrets)
    assert caught.value.field == field


def test_a_secret_of_sixteen_letters_of_any_script_serves(monkeypatch: pytest.MonkeyPatch) -> None:
    for secret in ("x" * LEAST_SECRET, "日本語" * 6, "\U0001f4c5" * LEAST_SECRET, "a'b\"c\\d\x00" * 3):
        keyring = Keyring([secret])
        assert accepted(keyring.sign("acme", BOOKING, NONCE, UNTIL), monkeypatch, keyring)


def test_without_secrets_no_token_is_made_and_none_accepted(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InvalidInput) as caught:
        Keyring().sign("acme", BOOKING, NONCE, UNTIL)
    assert caught.value.field == "secrets"
    assert not accepted(TOKEN, monkeypatch, Keyring(()))


def test_later_changes_of_the_list_change_no_keyring() -> None:
    given_secrets = [NEW]
    keyring = Keyring(given_secrets)
    given_secrets[0] = OLD
    assert keyring.sign("acme", BOOKING, NONCE, UNTIL) == TOKEN


def refusals(secrets: Sequence[Any]) -> str:
    """All that a traceback shows of a keyring that is refused."""
    try:
        Keyring(secrets)
    except NxschedError as error:
        return "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error))
    return ""


def test_no_secret_is_shown() -> None:
    short = "hunter2-hunter2"
    for shown in (repr(KEYRING), repr(replace(KEYRING)), refusals([short]), refusals([NEW, NEW])):
        assert shown
        assert not any(secret in shown for secret in (NEW, OLD, short))


def test_a_token_taken_apart_does_not_show_its_mac() -> None:
    found = read(TOKEN)
    assert isinstance(found, Token)
    for shown in (repr(found), str(found)):
        assert TOKEN not in shown
        assert repr(found.mac) not in shown
        assert repr(found.body) not in shown


@pytest.mark.parametrize("secrets", [NEW, NEW.encode(), [NEW.encode()], [OLD, NEW.encode()]])
def test_a_secret_of_the_wrong_kind_is_not_shown_either(secrets: Any) -> None:  # noqa: ANN401
    shown = refusals(secrets)
    assert shown
    assert NEW[:12] not in shown


def test_a_secret_that_cannot_be_encoded_is_refused_when_it_is_given() -> None:
    with pytest.raises(InvalidInput) as caught:
        Keyring(["\ud800" * LEAST_SECRET])
    assert caught.value.field == "secrets[0]"


def test_blanks_are_no_secret() -> None:
    with pytest.raises(InvalidInput) as caught:
        Keyring([" " * LEAST_SECRET])
    assert caught.value.field == "secrets[0]"
