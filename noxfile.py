"""Every check and chore of the project. Plain `nox` runs the whole test command of the README.

The checks share one environment, made by the session `dev`: it is installed once, and again when pyproject.toml has
changed. They require that session and have no environment of their own.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
# virtualenv and pip read the user's pip configuration (an index of their own, a proxy); uv would not.
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.error_on_external_run = True
# The tests come last, so that their closing line is near the end of the output.
nox.options.sessions = ["lint", "types", "docs", "tests"]

DEV_PROGRAMS = Path(".nox/dev/bin").resolve()
PYPROJECT = Path("pyproject.toml")


def install(session: nox.Session, group: str) -> None:
    """Install imapipe (editable, with its command line) and a dependency group, unless that is done already."""
    stamp = Path(session.virtualenv.location, "imapipe-installed")
    wanted = hashlib.sha256(PYPROJECT.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        session.debug("pyproject.toml has not changed: nothing to install")
        return
    groups = nox.project.dependency_groups(nox.project.load_toml(PYPROJECT), group)
    session.install("--quiet", "--editable", ".[cli]", *groups)
    stamp.write_text(wanted)


def run(session: nox.Session, program: str, *arguments: str) -> None:
    """Run a program of the shared environment."""
    session.run(str(DEV_PROGRAMS / program), *arguments, external=True)


@nox.session
def dev(session: nox.Session) -> None:
    """Make the environment that all checks share."""
    install(session, "dev")


@nox.session(requires=["dev"], venv_backend="none")
def lint(session: nox.Session) -> None:
    """Check style (ruff) and who imports whom (import-linter)."""
    run(session, "ruff", "check", ".")
    run(session, "ruff", "format", "--check", ".")
    run(session, "lint-imports", "--no-cache")


@nox.session(requires=["dev"], venv_backend="none")
def types(session: nox.Session) -> None:
    """Check types (mypy --strict): the package, its tests, and everything around them."""
    run(session, "mypy", *session.posargs)


@nox.session(requires=["dev"], venv_backend="none")
def docs(session: nox.Session) -> None:
    """Build the documentation with warnings as errors, and run its examples."""
    shutil.rmtree("docs/_build", ignore_errors=True)
    for builder in ("html", "doctest"):
        options = ("--fail-on-warning", "--keep-going", "--quiet", "--doctree-dir", "docs/_build/doctrees")
        run(session, "sphinx-build", *options, "--builder", builder, "docs", f"docs/_build/{builder}")


@nox.session(requires=["dev"], venv_backend="none")
def tests(session: nox.Session) -> None:
    """Run the tests; those against Dovecot need the distribution's package and are skipped without it."""
    run(session, "pytest", *session.posargs)


@nox.session
def demo(session: nox.Session) -> None:
    """Run the main job on the embedded server: scan, kill, resume, report."""
    session.install("--quiet", ".[cli]")
    session.run("imapipe", "demo", *session.posargs)


@nox.session
def bench(session: nox.Session) -> None:
    """Measure against a Dovecot of its own; `nox -s bench -- --check` asserts the bars."""
    install(session, "bench")
    session.run("python", "-m", "benchmarks", *session.posargs, env={"PYTHONPATH": "tools"})
