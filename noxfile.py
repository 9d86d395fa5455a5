"""Every check and chore of the project. Plain `nox` runs the whole test command of the README.

The checks share one environment, made by the session `dev`: it is installed once, and again when pyproject.toml has
changed. They require that session and have no environment of their own. The sessions `pythons` and `package` do: they
show that imapipe works in another interpreter, and that what is built works without the checkout.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import nox

nox.needs_version = ">=2025.5.1"
# virtualenv and pip read the user's pip configuration (an index of their own, a proxy); uv would not.
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.error_on_external_run = True
# The tests come last, so that their closing line is near the end of the output.
nox.options.sessions = ["lint", "types", "docs", "package", "pythons", "tests"]

VERSIONS: Final = ("3.11", "3.12", "3.13", "3.14")
DEV_PROGRAMS: Final = Path(".nox/dev/bin").resolve()
PYPROJECT: Final = Path("pyproject.toml")
# What needs no Dovecot and less than two seconds a test; fewer examples, for they are not what differs.
FAST: Final = ("-q", "-m", "not slow and not dovecot", "--hypothesis-profile=few")
# Enough to see that the wheel has all its modules, that its dependencies are all that it needs, and that jobs run.
OF_THE_WHEEL: Final = (
    "tests/wire",
    "tests/models",
    "tests/store",
    "tests/cli/test_scan.py",
    "tests/test_public_names.py",
)


def wanted_installation() -> str:
    """What an installation depends on: it is renewed when this changes."""
    version = re.search(r'^__version__ = "(.+)"$', Path("src/imapipe/__init__.py").read_text(), re.MULTILINE)
    return hashlib.sha256(PYPROJECT.read_bytes()).hexdigest() + (version[1] if version else "")


def groups(name: str) -> Sequence[str]:
    """The packages of a dependency group."""
    return nox.project.dependency_groups(nox.project.load_toml(PYPROJECT), name)


def install(session: nox.Session, group: str) -> None:
    """Install imapipe (editable, with its command line) and a dependency group, unless that is done already."""
    stamp = Path(session.virtualenv.location, "imapipe-installed")
    if stamp.exists() and stamp.read_text() == wanted_installation():
        session.debug("pyproject.toml has not changed: nothing to install")
        return
    session.install("--quiet", "--editable", ".[cli]", *groups(group))
    stamp.write_text(wanted_installation())


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
    """Check types: everything with mypy --strict, and what users see of the API with pyright too."""
    run(session, "mypy", *session.posargs)
    run(session, "basedpyright", "--pythonpath", str(DEV_PROGRAMS / "python"))


@nox.session(requires=["dev"], venv_backend="none")
def docs(session: nox.Session) -> None:
    """Build the documentation with warnings as errors, run its examples, and look for every page in the result."""
    shutil.rmtree("docs/_build", ignore_errors=True)
    for builder in ("html", "doctest"):
        options = ("--fail-on-warning", "--keep-going", "--quiet", "--doctree-dir", "docs/_build/doctrees")
        run(session, "sphinx-build", *options, "--builder", builder, "docs", f"docs/_build/{builder}")
    run(session, "python", "tools/check_site.py", "docs", "docs/_build/html")


@nox.session(requires=["dev"], venv_backend="none")
def tests(session: nox.Session) -> None:
    """Run the tests; those against Dovecot need the distribution's package and are skipped without it.

    Without arguments these are all tests, and the coverage of lines and branches has a bar to reach.
    """
    run(session, "pytest", *(session.posargs or ("--cov", "--cov-report=term:skip-covered")))


def interpreters(versions: Iterable[str], folders: Iterable[Path]) -> dict[str, Path]:
    """Find an interpreter of each version, by its usual name in one of the folders; those that are absent are left out.

    A file of that name that does not run, or is of another version, is none: version managers leave such on the path.
    """
    places = [folder for folder in folders if folder.is_dir()]
    found: dict[str, Path] = {}
    for version in versions:
        for place in places:
            program = place / f"python{version}"
            if version not in found and program.is_file() and _version_of(program) == version:
                found[version] = program
    return found


def _version_of(program: Path) -> str:
    ask = [str(program), "-I", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    try:
        return subprocess.run(ask, capture_output=True, text=True, check=True, timeout=60).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def usual_folders() -> list[Path]:
    """Where interpreters are: on the path, and where pyenv and uv keep theirs."""
    on_the_path = [Path(entry) for entry in os.environ.get("PATH", "").split(os.pathsep) if entry]
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    uv = Path.home() / ".local/share/uv/python"
    return [*on_the_path, *sorted(pyenv.glob("versions/*/bin")), *sorted(uv.glob("*/bin"))]


@nox.session(venv_backend="none")
def pythons(session: nox.Session) -> None:
    """Run the fast part of the tests on every other Python that is on this machine; the rest is said in one line."""
    own = ".".join(map(str, sys.version_info[:2]))
    others = [version for version in VERSIONS if version != own]
    found = interpreters(others, usual_folders())
    absent = [version for version in others if version not in found]
    if absent:
        session.log(f"not on this machine, so not tested: Python {', '.join(absent)}")
    for version, interpreter in found.items():
        make_environment(session, version, interpreter)
    # Side by side: most tests wait for a socket most of the time. An output is shown when it is whole.
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        passed = dict(zip(found, threads.map(partial(run_fast, session), found), strict=True))
    failed = [version for version in found if not passed[version]]
    if failed:
        session.error(f"the tests failed on Python {', '.join(failed)}")


def python_of(version: str) -> Path:
    """The interpreter of the environment for another version."""
    # Not resolved: it is a link to the interpreter that the environment was made from.
    return Path(f".nox/python-{version}/bin/python").absolute()


def make_environment(session: nox.Session, version: str, interpreter: Path) -> None:
    """Make the environment for another version, unless that is done already."""
    python = python_of(version)
    folder = python.parents[1]
    stamp = folder / "imapipe-installed"
    if not stamp.exists() or stamp.read_text() != wanted_installation():
        make = ("-m", "virtualenv", "--quiet", "--python", str(interpreter), str(folder))
        session.run(sys.executable, *make, external=True)
        packages = ("--quiet", "--editable", ".[cli]", *groups("tests"))
        session.run(str(python), "-m", "pip", "install", *packages, external=True)
        stamp.write_text(wanted_installation())


def run_fast(session: nox.Session, version: str) -> bool:
    """Run the fast part of the tests in the environment of another version; tells whether they passed."""
    command = (str(python_of(version)), "-m", "pytest", *FAST, *session.posargs)
    try:
        output = session.run(*command, external=True, silent=True)
    except nox.command.CommandFailed:
        return False
    session.log(f"Python {version}: {str(output).strip().splitlines()[-1]}")
    return True


@nox.session(reuse_venv=False)
def package(session: nox.Session) -> None:
    """Build the sdist, and the wheel from it; check both; test the wheel where there is no checkout."""
    session.install("--quiet", "build", "twine", *groups("tests"))
    folder = Path(session.create_tmp()).resolve()
    built, copy = folder / "dist", folder / "copy"
    for old in (built, copy):
        shutil.rmtree(old, ignore_errors=True)
    session.run("python", "-m", "build", "--outdir", str(built), silent=True)
    files = sorted(map(str, built.iterdir()))
    session.run("twine", "check", "--strict", *files)
    session.install("--quiet", *(f"{file}[cli]" for file in files if file.endswith(".whl")))
    for name in ("tests", "tools"):
        shutil.copytree(name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PYPROJECT, copy)
    session.chdir(copy)
    where = "import imapipe, sys; sys.exit(not imapipe.__file__.startswith(sys.prefix) and imapipe.__file__)"
    session.run("python", "-c", where, env={"PYTHONPATH": None})
    session.run("python", "-m", "pytest", *FAST, *OF_THE_WHEEL, env={"PYTHONPATH": None})


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
