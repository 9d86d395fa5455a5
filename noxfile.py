"""Every check and chore of the project. Plain `nox` runs the whole test command of the README.

The checks share one environment, `.nox/dev`: it is installed once and kept until pyproject.toml changes.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import nox

nox.needs_version = ">=2025.5.1"
# virtualenv and pip read the user's pip configuration (an index of their own, a proxy); uv would not.
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_existing_virtualenvs = True
nox.options.error_on_external_run = True
# The tests come last, so that their closing line is near the end of the output.
nox.options.sessions = ["lint", "types", "docs", "tests"]

DEV = ".nox/dev"
PYPROJECT = Path("pyproject.toml")


def install(session: nox.Session, group: str) -> None:
    """Install imapipe (editable, with its command line) and a dependency group, unless that is done already."""
    stamp = Path(session.virtualenv.location, "imapipe-installed")
    wanted = hashlib.sha256(f"{group}\n{PYPROJECT.read_text()}".encode()).hexdigest()
    if stamp.exists() and stamp.read_text() == wanted:
        session.debug("pyproject.toml has not changed: nothing to install")
        return
    groups = nox.project.dependency_groups(nox.project.load_toml(PYPROJECT), group)
    session.install("--quiet", "--editable", ".[cli]", *groups)
    stamp.write_text(wanted)


@nox.session(venv_location=DEV)
def lint(session: nox.Session) -> None:
    """Check style (ruff) and who imports whom (import-linter)."""
    install(session, "dev")
    session.run("ruff", "check", ".")
    session.run("ruff", "format", "--check", ".")
    session.run("lint-imports", "--no-cache")


@nox.session(venv_location=DEV)
def types(session: nox.Session) -> None:
    """Check types (mypy --strict): the package, its tests, and everything around them."""
    install(session, "dev")
    session.run("mypy", *session.posargs)


@nox.session(venv_location=DEV)
def tests(session: nox.Session) -> None:
    """Run the tests; those against Dovecot need the distribution's package and are skipped without it."""
    install(session, "dev")
    session.run("python", "-m", "pytest", *session.posargs)


@nox.session(venv_location=DEV)
def docs(session: nox.Session) -> None:
    """Build the documentation with warnings as errors, and run its examples."""
    install(session, "dev")
    shutil.rmtree("docs/_build", ignore_errors=True)
    for builder in ("html", "doctest"):
        session.run(
            "python", "-m", "sphinx", "--fail-on-warning", "--keep-going", "--quiet",
            "--builder", builder, "--doctree-dir", "docs/_build/doctrees", "docs", f"docs/_build/{builder}",
        )  # fmt: skip


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
