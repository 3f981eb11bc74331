"""Mutate the calculator and see that the tests notice: `make mutation`, or a sample of modules in `make test-slow`.

A mutant that survives must be explained in tests/survivors.toml by the line it changes; any other fails the run.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ("intervals", "grid", "limits", "seats")


def mutmut(*arguments: str, quiet: bool = True) -> str:
    """Run mutmut in the checkout; its progress goes to the terminal, or nowhere where there is none."""
    command = [sys.executable, "-m", "mutmut", *arguments]
    environment = {**os.environ, "NXSCHED_PROFILE": "mutation"}
    if quiet:
        return subprocess.run(command, cwd=ROOT, env=environment, check=True, capture_output=True, text=True).stdout
    loud = None if sys.stdout.isatty() else subprocess.PIPE
    done = subprocess.run(
        command, cwd=ROOT, env=environment, check=False, stdout=loud, stderr=subprocess.STDOUT, text=True
    )
    if done.returncode:
        sys.exit(f"mutmut failed:\n{(done.stdout or '')[-3000:]}")
    return ""


def survivors(modules: tuple[str, ...]) -> list[tuple[str, str]]:
    """Names and states of the mutants of some modules that no test noticed."""
    found = []
    for line in mutmut("results").splitlines():
        name, _, state = line.strip().partition(": ")
        if state and state != "timeout" and name.split(".")[2] in modules:  # what never ends was noticed
            found.append((name, state))
    return found


def change(name: str) -> tuple[str, str]:
    """What a mutant changes: the lines that went, and the lines that came."""
    lines = [line for line in mutmut("show", name).splitlines() if not line.startswith(("---", "+++"))]
    went = [line[1:].strip() for line in lines if line.startswith("-")]
    came = [line[1:].strip() for line in lines if line.startswith("+")]
    return "\n".join(went), "\n".join(came)


def main() -> None:
    """Run mutmut, and print the survivors that nobody has explained; exit status 1 if there are any."""
    parser = argparse.ArgumentParser(description=__doc__, epilog="Example: python tests/mutation.py --sample")
    parser.add_argument("--sample", action="store_true", help=f"only {', '.join(SAMPLE)}")
    every = tuple(sorted(path.stem for path in (ROOT / "src/nxsched/slots").glob("*.py") if path.stem != "__init__"))
    modules = SAMPLE if parser.parse_args().sample else every
    mutmut("run", *(f"nxsched.slots.{module}.*" for module in modules), quiet=False)
    explained = {
        (one["was"], became)
        for one in tomllib.loads((ROOT / "tests/survivors.toml").read_text(encoding="utf-8"))["survivor"]
        for became in one["became"]
    }
    left = [(name, state, *change(name)) for name, state in survivors(modules)]
    unexplained = [one for one in left if one[2:] not in explained]
    for name, state, went, came in unexplained:
        print(f"{name}: {state}\n  was    {went}\n  became {came}\n")
    print(f"{len(left)} mutants survived, {len(left) - len(unexplained)} of them explained in tests/survivors.toml")
    sys.exit(1 if unexplained else 0)


if __name__ == "__main__":
    main()
