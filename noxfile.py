"""Every check and chore of the project. Plain `nox` runs the whole test command of the README.

The checks share the environment `dev`. The sessions `pythons` and `package` have others: they show that imapipe works
in another interpreter, and that what is built works without the checkout. An environment is installed once, and again
when pyproject.toml has changed.

What has no need of another's result runs side by side, on as many processors as there are. Tests run in several
processes, one of which waits for a socket while another computes; with arguments after `--` they are plain pytest.
"""

from __future__ import annotations

import concurrent.futures
import hashlib
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import nox

nox.needs_version = ">=2025.5.1"
# virtualenv and pip read the user's pip configuration (an index of their own, a proxy); uv would not.
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.error_on_external_run = True
# What is compiled is kept: hundreds of processes of one run import the same modules.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
# The tests come last, so that their closing line is near the end of the output.
nox.options.sessions = ["checks", "tests"]

VERSIONS: Final = ("3.11", "3.12", "3.13", "3.14")
PROCESSORS: Final = os.cpu_count() or 1
PYPROJECT: Final = Path("pyproject.toml")
# What needs no Dovecot, is not slow and measures no growth; a few cases and examples of each test (tests/cases.py),
# for they are not what differs. An assertion that fails is not explained: that would cost more than to run them.
FAST: Final = (
    "-q",
    "-m",
    "not slow and not dovecot and not no_cover",
    "--few-cases",
    "--hypothesis-profile=few",
    "--assert=plain",
)
# Enough to see that the wheel has all its modules, that its dependencies are all that it needs, and that jobs run.
OF_THE_WHEEL: Final = (
    "tests/wire",
    "tests/models",
    "tests/store",
    "tests/cli/test_scan.py",
    "tests/test_public_names.py",
)


# -- how things are run -----------------------------------------------------------------------------


def side_by_side(session: nox.Session, works: Mapping[str, Callable[[], str]], at_once: int | None = None) -> None:
    """Do several works at the same time; what each gives is told when it is done, and the session fails if one did."""

    def do(name: str) -> bool:
        try:
            said = works[name]()
        except nox.command.CommandFailed:
            return False
        session.log(f"{name}: {said}")
        return True

    with concurrent.futures.ThreadPoolExecutor(at_once) as threads:
        done = dict(zip(works, threads.map(do, works), strict=True))
    if failed := [name for name in works if not done[name]]:
        session.error(f"failed: {', '.join(failed)}")


def run_quietly(session: nox.Session, *command: str) -> str:
    """Run a program; gives the last line of what it says, and shows all of it where it fails."""
    output = str(session.run(*command, external=True, silent=True)).strip()
    return output.splitlines()[-1] if output else "passed"


def in_processes(count: int) -> Sequence[str]:
    """Options of pytest for that many processes; what one of them has not begun with, another that is idle takes."""
    return (f"--numprocesses={count}", "--dist=worksteal")


# -- environments ----------------------------------------------------------------------------------


def wanted_installation() -> str:
    """What an installation depends on: it is renewed when this changes."""
    version = re.search(r'^__version__ = "(.+)"$', Path("src/imapipe/__init__.py").read_text(), re.MULTILINE)
    return hashlib.sha256(PYPROJECT.read_bytes()).hexdigest() + (version[1] if version else "")


def groups(name: str) -> Sequence[str]:
    """The packages of a dependency group."""
    return nox.project.dependency_groups(nox.project.load_toml(PYPROJECT), name)


def python_of(environment: str) -> Path:
    """The interpreter of an environment."""
    # Not resolved: it is a link to the interpreter that the environment was made from.
    return Path(f".nox/{environment}/bin/python").absolute()


def make_environment(session: nox.Session, name: str, group: str, interpreter: Path) -> str:
    """Install imapipe (editable, with its command line) and a dependency group, unless that is done already."""
    python = python_of(name)
    folder = python.parents[1]
    stamp = folder / "imapipe-installed"
    if stamp.exists() and stamp.read_text() == wanted_installation():
        return "pyproject.toml has not changed: nothing to install"
    run_quietly(session, sys.executable, "-m", "virtualenv", "--python", str(interpreter), str(folder))
    run_quietly(session, str(python), "-m", "pip", "install", "--editable", ".[cli]", *groups(group))
    stamp.write_text(wanted_installation())
    return "installed"


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


def other_versions() -> Sequence[str]:
    """The versions that imapipe works with, without the one that runs this."""
    own = ".".join(map(str, sys.version_info[:2]))
    return [version for version in VERSIONS if version != own]


@nox.session(venv_backend="none")
def dev(session: nox.Session) -> None:
    """Make the environment that all checks share."""
    session.log(make_environment(session, "dev", "dev", Path(sys.executable)))


# -- checks ----------------------------------------------------------------------------------------


def program(name: str) -> str:
    """A program of the environment that all checks share."""
    return str(python_of("dev").with_name(name))


def run(session: nox.Session, name: str, *arguments: str) -> None:
    """Run a program of that environment."""
    session.run(program(name), *arguments, external=True)


@nox.session(requires=["dev"], venv_backend="none")
def checks(session: nox.Session) -> None:
    """Do all that follows but for the tests: while one waits for a package index, another computes."""

    def check(name: str) -> str:
        said = session.run(sys.executable, "-m", "nox", "--session", name, external=True, silent=True)
        return f"\n{str(said).strip()}"

    # The longest first.
    names = ("pythons", "package", "docs", "types", "lint")
    side_by_side(session, {name: partial(check, name) for name in names}, at_once=PROCESSORS)


@nox.session(requires=["dev"], venv_backend="none")
def lint(session: nox.Session) -> None:
    """Check style (ruff) and who imports whom (import-linter)."""
    run(session, "ruff", "check", ".")
    run(session, "ruff", "format", "--check", ".")
    run(session, "lint-imports", "--no-cache")


@nox.session(requires=["dev"], venv_backend="none")
def types(session: nox.Session) -> None:
    """Check types: everything with mypy --strict, and what users see of the API with pyright too."""
    mypy = partial(run_quietly, session, program("mypy"), *session.posargs)
    pyright = partial(run_quietly, session, program("basedpyright"), "--pythonpath", program("python"))
    side_by_side(session, {"mypy": mypy, "pyright": pyright})


@nox.session(requires=["dev"], venv_backend="none")
def docs(session: nox.Session) -> None:
    """Build the documentation with warnings as errors, run its examples, and look for every page in the result."""
    shutil.rmtree("docs/_build", ignore_errors=True)

    # One after the other: what the first has read, the second need not read again.
    for builder in ("html", "doctest"):
        options = ("--fail-on-warning", "--keep-going", "--quiet", "--doctree-dir", "docs/_build/doctrees")
        run(session, "sphinx-build", *options, "--builder", builder, "docs", f"docs/_build/{builder}")
    run(session, "python", "tools/check_site.py", "docs", "docs/_build/html")


@nox.session(requires=["dev"], venv_backend="none")
def tests(session: nox.Session) -> None:
    """Run the tests; those against Dovecot need the distribution's package and are skipped without it.

    Without arguments these are all tests, and the coverage of lines and branches has a bar to reach.
    """
    if session.posargs:
        run(session, "pytest", *session.posargs)
        return
    run(session, "coverage", "erase")
    run(session, "coverage", "run", "--parallel-mode", "tools/every_module.py")
    # One process more than processors: most tests wait for a socket most of the time.
    run(session, "pytest", *in_processes(PROCESSORS + 1), "--trace-a-few")
    run(session, "coverage", "combine", "--quiet")
    run(session, "coverage", "report", "--skip-covered")


@nox.session(venv_backend="none")
def pythons(session: nox.Session) -> None:
    """Run the fast part of the tests on every other Python that is on this machine; the rest is said in one line."""
    found = interpreters(other_versions(), usual_folders())
    absent = [version for version in other_versions() if version not in found]
    if absent:
        session.log(f"not on this machine, so not tested: Python {', '.join(absent)}")

    def test(version: str) -> str:
        make_environment(session, f"python-{version}", "tests", found[version])
        python = str(python_of(f"python-{version}"))
        # What works in the oldest and in the newest is looked at in short in those between.
        places = session.posargs or (() if version == max(found, key=VERSIONS.index) else OF_THE_WHEEL)
        return run_quietly(session, python, "-m", "pytest", *FAST, *in_processes(PROCESSORS), *places)

    side_by_side(session, {f"Python {version}": partial(test, version) for version in found})


@nox.session(requires=["dev"], reuse_venv=False)
def package(session: nox.Session) -> None:
    """Build the sdist, and the wheel from it; check both; test the wheel where there is no checkout."""
    folder = Path(session.create_tmp()).resolve()
    built, copy = folder / "dist", folder / "copy"
    for old in (built, copy):
        shutil.rmtree(old, ignore_errors=True)
    build = partial(run_quietly, session, program("python"), "-m", "build", "--outdir", str(built))
    install = partial(run_quietly, session, "python", "-m", "pip", "install", *groups("tests"))
    side_by_side(session, {"build": build, "what the tests need": install})
    files = sorted(map(str, built.iterdir()))
    run(session, "twine", "check", "--strict", *files)
    session.install("--quiet", *(f"{file}[cli]" for file in files if file.endswith(".whl")))
    for name in ("tests", "tools"):
        shutil.copytree(name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PYPROJECT, copy)
    session.chdir(copy)
    where = "import imapipe, sys; sys.exit(not imapipe.__file__.startswith(sys.prefix) and imapipe.__file__)"
    session.run("python", "-c", where, env={"PYTHONPATH": None})
    arguments = (*FAST, *in_processes(PROCESSORS), *OF_THE_WHEEL)
    session.run("python", "-m", "pytest", *arguments, env={"PYTHONPATH": None})


# -- chores ----------------------------------------------------------------------------------------


@nox.session
def demo(session: nox.Session) -> None:
    """Run the main job on the embedded server: scan, kill, resume, report."""
    session.install("--quiet", ".[cli]")
    session.run("imapipe", "demo", *session.posargs)


@nox.session(venv_backend="none")
def bench(session: nox.Session) -> None:
    """Measure against a Dovecot of its own; `nox -s bench -- --check` asserts the bars."""
    make_environment(session, "bench", "bench", Path(sys.executable))
    environment = {"PYTHONPATH": "tools"}
    session.run(str(python_of("bench")), "-m", "benchmarks", *session.posargs, external=True, env=environment)


@nox.session(requires=["dev"], venv_backend="none")
def proof(session: nox.Session) -> None:
    """Export 20,000 messages to every format and back, copy and change them, over kills, on both servers: `-- 5000`."""
    count = session.posargs[0] if session.posargs else "20000"
    places = [f"tests/sinks/test_{name}.py" for name in ("round_trip", "memory", "kill", "copy_kill")]
    places += [f"tests/integration/test_changes_{name}.py" for name in ("at_size", "killed")]
    places += ["tests/integration/test_after_on_dovecot.py"]
    places += ["tests/pipeline/operation/test_remainders.py::test_many_come_through_a_bad_line_on_four_connections"]
    places += [f"tests/contrib/test_{name}.py" for name in ("examples", "load")]
    environment = {"IMAPIPE_PROOF_MESSAGES": count}
    session.run(program("pytest"), "-v", "--timeout=0", *places, external=True, env=environment)


@nox.session(venv_backend="none")
def fuzz(session: nox.Session) -> None:
    """Give hostile input to everything that reads: `nox -s fuzz -- --minutes 10`; atheris helps where it is."""
    make_environment(session, "fuzz", "tests", Path(sys.executable))
    python = str(python_of("fuzz"))
    atheris = ("-m", "pip", "install", "--quiet", "--only-binary", ":all:", "atheris")
    session.run(python, *atheris, external=True, success_codes=[0, 1])
    session.run(python, "-m", "fuzz", *session.posargs, external=True, env={"PYTHONPATH": "tools"})
