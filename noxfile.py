"""What developers run and what CI runs, as nox sessions: `nox -l` lists them."""

from __future__ import annotations

import nox

nox.needs_version = ">=2024.10"
nox.options.default_venv_backend = "venv"
nox.options.error_on_missing_interpreters = False
nox.options.sessions = ["tests", "lint", "types"]


@nox.session(python=["3.11", "3.12", "3.13", "3.14"])
def tests(session: nox.Session) -> None:
    """Run the tests. Arguments go to pytest."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Check rules and format."""
    session.install("ruff")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")


@nox.session
def types(session: nox.Session) -> None:
    """Check types, strictly, with two checkers."""
    session.install("-e", ".[dev]")
    session.run("mypy")
    session.run("pyright")


@nox.session
def coverage(session: nox.Session) -> None:
    """Run the tests, and fail when too many lines were not."""
    session.install("-e", ".[test]")
    session.env["COVERAGE_FILE"] = f"{session.create_tmp()}/coverage"
    session.run("coverage", "erase")
    session.run("coverage", "run", "-m", "pytest", *session.posargs)
    session.run("coverage", "combine", "--quiet")
    report = ("coverage", "report", "--precision=2")
    session.run(*report, "--include=trioshard/protocol/*", "--fail-under=100")
    session.run(*report, "--omit=trioshard/protocol/*", "--fail-under=95")


@nox.session
def demo(session: nox.Session) -> None:
    """Run the demo for a few seconds, or with other arguments."""
    session.install(".")
    session.run("trioshard", "demo", *(session.posargs or ("--seconds", "5")))


@nox.session
def simulate(session: nox.Session) -> None:
    """Play twenty thousand seeded histories, or what the arguments say."""
    session.install(".[zstd,speed]")
    session.run("trioshard", "simulate", *(session.posargs or ("--seeds", "20000", "--all-met")))


@nox.session
def small_worlds(session: nox.Session) -> None:
    """Play the smallest scenarios in every order of tasks."""
    session.install(".[zstd,speed]")
    session.run("trioshard", "simulate", "--small-worlds")


@nox.session
def mutants(session: nox.Session) -> None:
    """Let the simulation find shards that are broken on purpose, each within 2,000 seeds."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.mutants", *session.posargs)


@nox.session
def model(session: nox.Session) -> None:
    """Check the formal model exhaustively. Needs spin and gcc."""
    session.run("python", "docs/model/check.py", *session.posargs)


@nox.session
def soak(session: nox.Session) -> None:
    """Make real trouble for a minute, or with other arguments."""
    session.install(".[soak,zstd,speed]")
    session.run("trioshard", "soak", *(session.posargs or ("--minutes", "1")))


@nox.session
def restarts(session: nox.Session) -> None:
    """Kill a bot process fifty times under a stream of messages, and stop it in good order fifty times."""
    session.install("-e", ".[test]")
    session.run("python", "-m", "tests.restarts", *session.posargs)


@nox.session
def peers(session: nox.Session) -> None:
    """Run clients built with other libraries against the built-in gateway."""
    session.install("-e", ".[test]")
    session.run("bash", ".ci/peers", session.create_tmp(), external=True)


@nox.session
def fuzz(session: nox.Session) -> None:
    """Feed a million inputs to everything that reads what a peer sends, or do what the arguments say."""
    session.install("-e", ".[fuzz]")
    session.run("python", "-m", "tests.fuzz", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Compare with other clients, and write docs/benchmarks.md; with arguments, do what they say."""
    session.install("-e", ".[bench]")
    session.run("python", "-m", "benchmarks", *(session.posargs or ("--output", "docs")))


@nox.session
def profile(session: nox.Session) -> None:
    """Show where the shard's CPU time goes. Arguments go to `python -m benchmarks.profile`."""
    session.install("-e", ".[speed,zstd,soak]")
    session.run("python", "-m", "benchmarks.profile", *session.posargs)
