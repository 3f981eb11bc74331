"""What is done to workers, or to their database, so that the checker has something to find."""

from __future__ import annotations

import os
import random
import re
import signal
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import Any

import psycopg
from sqlalchemy import Engine, event

from nxsched.service import relaying, reminding
from nxsched.store.outbox import EVENTS
from nxsched.store.queue import Settled
from nxsched.store.standing import lock_booking
from nxsched.torture import Worker
from nxsched.torture.calls import Call, Chooser
from nxsched.torture.journal import written
from nxsched.torture.stage import Stage
from nxsched.torture.worker import Answer


def without_row_locks(worker: Worker) -> None:
    """Nobody waits for anybody who counts the same."""

    def unlocked(statement: str) -> str:
        return re.sub(r"FOR NO KEY UPDATE( OF [\w, ]+)?( SKIP LOCKED)?", "", statement)

    for engine in (worker.engine, *(one.sync_engine for one in worker.async_engines.values())):
        _rewritten(engine, unlocked)


def _rewritten(engine: Engine, rewrite: Callable[[str], str]) -> None:
    def before(_: Any, __: Any, statement: str, parameters: Any, *___: Any) -> tuple[str, Any]:  # noqa: ANN401
        return rewrite(statement), parameters

    event.listen(engine, "before_cursor_execute", before, retval=True)


def acknowledged_before_the_commit(worker: Worker) -> None:
    """The application says that it is done, and then commits: it may die, or be cut off, in between."""

    def finished(call: Call, commit: Callable[[], None], made: object) -> Answer:
        answer = worker.told(call, made)
        worker.journal.end(call.key, *answer)
        if worker.chance.random() < 0.05:
            os.kill(os.getpid(), signal.SIGKILL)
        commit()
        return answer

    worker.finished = finished  # type: ignore[method-assign]


def all_for_one(worker: Worker) -> None:
    """Everybody wants the same hour of the same host, another one each quarter of a second."""
    for chooser in worker.choosers:

        def slot(chooser: Chooser = chooser) -> tuple[str, str]:
            return "ada", written(random.Random(int(time.monotonic() * 4)).choice(chooser.starts()))  # noqa: S311

        chooser._slot = slot  # type: ignore[method-assign] # noqa: SLF001 - our own


def without_the_constraint(stage: Stage) -> None:
    """A constraint of that name is there, and excludes nothing."""
    _above(
        stage,
        "ALTER TABLE nxsched.claim DROP CONSTRAINT claim_no_overlap, ADD CONSTRAINT claim_no_overlap"
        " EXCLUDE USING gist (int8range(host_no, host_no, '[]') WITH &&, tstzrange(busy_from, busy_until) WITH &&)"
        " WHERE (active AND host_no < 0)",
    )


def an_event_deleted_by_hand(stage: Stage) -> None:
    """One, while all goes on."""
    delete = (
        "DELETE FROM nxsched.outbox_event WHERE id = (SELECT id FROM nxsched.outbox_event ORDER BY random() LIMIT 1)"
    )

    def someday() -> None:
        deleted = 0
        while deleted == 0:
            time.sleep(1)
            with suppress(psycopg.Error), psycopg.connect(_url(stage), autocommit=True) as above:
                deleted = above.execute(delete).rowcount

    threading.Thread(target=someday, daemon=True).start()


def acknowledged_when_it_is_leased() -> None:
    """A relay writes down as delivered what it has not delivered yet, and may never."""
    take = relaying.take

    def backwards(connection: Any, wants: Any, tools: Any) -> Any:  # noqa: ANN401
        now, items = take(connection, wants, tools)
        done = [Settled(item=one, outcome="delivered") for one in items]
        wants.queue.settle(connection, wants.owner, tools.now, done)
        return now, items

    relaying.take = backwards


def in_no_order() -> None:
    """An event waits for none before it."""
    object.__setattr__(EVENTS, "line", ["id"])


def without_a_second_look() -> None:
    """A reminder goes out for its booking as it was, wherever that has moved to."""
    look = reminding.look

    def blind(connection: Any, asked: Any, tools: Any) -> Any:  # noqa: ANN401
        time.sleep(0.1)
        standing = lock_booking(connection, tools.tenant, asked.event.booking_id)
        assert standing is not None
        as_now = replace(asked, event=replace(asked.event, version=standing.booking.version))
        found = look(connection, as_now, tools)
        return found if isinstance(found, str) else replace(found, version=asked.event.version)

    reminding.look = blind


def _above(stage: Stage, *statements: str) -> None:
    with psycopg.connect(_url(stage), autocommit=True) as above:
        for statement in statements:
            above.execute(statement)


def _url(stage: Stage) -> str:
    return stage.above.replace("+psycopg", "", 1)
