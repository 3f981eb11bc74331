"""The embedded server: shared by processes, gone with the last of them however it ends, closed to everybody else."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from sqlalchemy import text

from nxsched import InvalidInput, Scheduler, StoreUnavailable
from nxsched.embedded import APP_ROLE, OWNER, VERSIONS, WORKER_ROLE, EmbeddedServer, start

USE = """
import os, sys
from nxsched import Scheduler
scheduler = Scheduler.embedded(sys.argv[1])
scheduler.verify()
print("ready", flush=True)
if "fork" in sys.argv and os.fork():
    os._exit(0)
sys.stdin.read()
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short name: the path of a socket may have about a hundred characters."""
    with tempfile.TemporaryDirectory(prefix="nxsched-") as found:
        yield Path(found) / "data"
        _wait_until_stopped(Path(found) / "data")


def _wait_until_stopped(folder: Path) -> None:
    """The watcher holds this lock until it has stopped the server."""
    if (folder / "watcher").exists():
        lock = os.open(folder / "watcher", os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.close(lock)


def _runs(folder: Path) -> bool:
    return (folder / "pgdata" / "postmaster.pid").exists()


def _user(folder: Path, *options: str) -> subprocess.Popen[str]:
    found = subprocess.Popen(
        [sys.executable, "-c", USE, str(folder), *options], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert found.stdout is not None
    assert found.stdout.readline() == "ready\n"
    return found


def test_a_new_folder_becomes_a_migrated_database_for_the_applications_role(folder: Path) -> None:
    with Scheduler.embedded(folder) as scheduler:
        scheduler.verify()
        with scheduler.engine.connect() as connection:
            assert connection.execute(text("SELECT current_user")).scalar() == APP_ROLE
            roles = connection.execute(text("SELECT rolname, rolsuper FROM pg_roles WHERE rolname LIKE 'nxsched%'"))
            assert dict(tuple(row) for row in roles) == {OWNER: False, APP_ROLE: False, WORKER_ROLE: False}
    _wait_until_stopped(folder)
    assert not _runs(folder)


def test_the_application_can_have_tables_of_its_own_beside_ours(folder: Path) -> None:
    with Scheduler.embedded(folder) as scheduler, scheduler.engine.begin() as connection:
        connection.execute(text("CREATE TABLE shop_order (id int PRIMARY KEY)"))
        assert connection.execute(text("SELECT to_regclass('public.shop_order') IS NOT NULL")).scalar()


def test_processes_share_a_server_and_the_last_one_that_is_killed_stops_it(folder: Path) -> None:
    one, other = _user(folder), _user(folder)
    server = (folder / "pgdata" / "postmaster.pid").read_text().splitlines()[0]
    one.kill()
    one.communicate()
    with Scheduler.embedded(folder) as scheduler:
        scheduler.verify()
        assert (folder / "pgdata" / "postmaster.pid").read_text().splitlines()[0] == server
    os.kill(other.pid, signal.SIGSTOP)
    assert _runs(folder)
    other.kill()
    other.communicate()
    _wait_until_stopped(folder)
    assert not _runs(folder)


@pytest.mark.slow
def test_a_forked_child_keeps_the_server_of_its_parent(folder: Path) -> None:
    parent = _user(folder, "fork")
    assert parent.wait() == 0
    with Scheduler.embedded(folder) as scheduler:
        scheduler.verify()
    assert _runs(folder)
    assert parent.stdin is not None
    parent.stdin.close()  # the child reads it too, and ends
    _wait_until_stopped(folder)
    assert not _runs(folder)
    assert parent.stdout is not None
    parent.stdout.close()


def test_a_folder_can_be_used_again_at_once_and_keeps_its_data(folder: Path) -> None:
    for _ in range(4):
        with Scheduler.embedded(folder) as scheduler, scheduler.engine.begin() as connection:
            connection.execute(text("SELECT set_config('nxsched.tenant_id', 'acme', true)"))
            connection.execute(
                text(
                    "INSERT INTO nxsched.tenant (tenant_id, name, settings, created_at)"
                    " VALUES ('acme', '', '{}', now()) ON CONFLICT DO NOTHING"
                )
            )
            assert connection.execute(text("SELECT count(*) FROM nxsched.tenant")).scalar() == 1


def test_closing_twice_and_opening_twice_is_all_right(folder: Path) -> None:
    one, other = Scheduler.embedded(folder), Scheduler.embedded(folder)
    server = (folder / "pgdata" / "postmaster.pid").read_text()
    one.close()
    one.close()
    other.verify()
    assert (folder / "pgdata" / "postmaster.pid").read_text() == server
    other.close()
    _wait_until_stopped(folder)
    assert not _runs(folder)


@pytest.mark.slow
def test_a_server_whose_files_were_left_by_a_crash_starts_again(folder: Path) -> None:
    with Scheduler.embedded(folder) as first:
        first.create_tenant("acme", name="Acme")
        pid = int((folder / "pgdata" / "postmaster.pid").read_text().splitlines()[0])
        os.kill(pid, signal.SIGKILL)
        while (Path("/proc") / str(pid)).exists():
            time.sleep(0.01)
        with Scheduler.embedded(folder) as again:
            again.verify()
            assert int((folder / "pgdata" / "postmaster.pid").read_text().splitlines()[0]) != pid
            assert again.tenant("acme").details().name == "Acme"


@pytest.mark.slow
def test_a_cluster_that_was_half_made_is_made_anew(folder: Path) -> None:
    (folder / "pgdata.new-1").mkdir(parents=True)
    (folder / "pgdata.new-1" / "PG_VERSION").write_text("18")
    with Scheduler.embedded(folder) as scheduler:
        scheduler.verify()
    assert sorted(one.name for one in folder.iterdir()) == ["pgdata", "starting", "users", "watcher"]


@pytest.mark.slow
def test_many_processes_that_come_at_once_to_a_new_folder_get_one_server(folder: Path) -> None:
    command = [sys.executable, "-c", USE, str(folder)]
    users = [
        subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(6)
    ]
    assert [user.communicate("")[0] for user in users] == ["ready\n"] * 6
    assert [user.returncode for user in users] == [0] * 6
    _wait_until_stopped(folder)
    assert not _runs(folder)


@pytest.mark.slow
@pytest.mark.parametrize("after", [0.1, 0.3, 0.6, 0.9, 1.2])
def test_a_process_that_is_killed_while_it_starts_a_server_leaves_nothing_that_runs(folder: Path, after: float) -> None:
    user = subprocess.Popen([sys.executable, "-c", USE, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    time.sleep(after)
    user.kill()
    user.communicate()
    _wait_until_stopped(folder)
    assert not _runs(folder)
    with Scheduler.embedded(folder) as scheduler:
        scheduler.verify()


def test_no_network_port_is_open_and_the_socket_is_the_servers_own(folder: Path) -> None:
    with Scheduler.embedded(folder) as scheduler:
        with scheduler.engine.connect() as connection:
            assert connection.execute(text("SHOW listen_addresses")).scalar() == ""
            port = int(str(connection.execute(text("SHOW port")).scalar()))
        with socket.socket() as tried, pytest.raises(OSError, match="refused"):
            tried.connect(("127.0.0.1", port))
        found = folder / "pgdata" / f".s.PGSQL.{port}"
        assert stat.S_IMODE(found.stat().st_mode) == 0o700


def test_every_version_of_the_package_can_be_chosen_for_a_new_folder(server: EmbeddedServer) -> None:
    with psycopg.connect(server.socket_uri("postgres", "postgres")) as connection:
        assert connection.info.server_version // 10_000 == server.version


def test_a_version_that_is_not_there_or_not_that_of_the_data_is_refused(folder: Path) -> None:
    with pytest.raises(InvalidInput, match=r"^version: the package holds PostgreSQL 16 and 18, not 9$"):
        start(folder, version=9)
    start(folder, version=VERSIONS[0]).close()
    with pytest.raises(InvalidInput, match=r"holds data of PostgreSQL 16, not 18$"):
        start(folder, version=VERSIONS[-1])
    found = start(folder)
    assert found.version == VERSIONS[0]
    found.close()


def test_a_folder_that_cannot_be_is_refused(folder: Path) -> None:
    folder.write_text("a file")
    with pytest.raises(InvalidInput, match=r"^path: .* cannot be made"):
        start(folder)
    folder.unlink()


@pytest.mark.parametrize("name", ["a b", "a'b", "a$b", "a;b", "a(b)", "a\tb"])
def test_a_folder_that_a_shell_would_read_otherwise_is_refused_by_name(tmp_path: Path, name: str) -> None:
    with pytest.raises(InvalidInput, match=r"must not have .* in it") as caught:
        start(tmp_path / name)
    assert caught.value.field == "path"
    assert not (tmp_path / name).exists()


@pytest.mark.parametrize("path", ["", None, 5, "postgresql://app:secret@localhost/app"])
def test_what_is_no_path_is_refused(path: object) -> None:
    with pytest.raises(InvalidInput, match=r"^path: must be the path of a folder(?!.*secret)"):
        start(path)  # type: ignore[arg-type]


def test_a_server_that_cannot_start_is_explained_in_the_words_of_its_log(folder: Path) -> None:
    start(folder).close()
    _wait_until_stopped(folder)
    with (folder / "pgdata" / "postgresql.conf").open("a", encoding="utf-8") as settings:
        settings.write("max_connections = none\n")
    with pytest.raises(StoreUnavailable, match=r"does not start: .*configuration file .* contains errors") as caught:
        start(folder)
    assert str(folder / "pgdata" / "log") in str(caught.value)
    assert caught.value.__cause__ is not None


def test_rights_that_the_package_widens_for_root_are_logged(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    if os.geteuid() != 0:
        pytest.skip("the package widens rights for root alone")
    start(folder).close()
    assert f"{folder.parent} may now be read by every user: 700 became 755" in caplog.text
