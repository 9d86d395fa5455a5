"""Every check and chore of the project. Plain `nox` runs the whole test command of the README.

The checks share the environment `dev`. The sessions `pythons` and `package` have others: they show that imapipe works
in another interpreter, and that what is built works without the checkout. An environment is installed once, and again
when pyproject.toml has changed.

What has no need of another's result runs side by side: while a test waits for a socket, or an installation for a
package index, something else computes. Tests run in a process for each processor, and one more; with arguments after
`--` they are plain pytest.
"""

from __future__ import annotations

import concurrent.futures
import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Final

import nox

nox.needs_version = ">=2025.5.1"
# virtualenv and pip read the user's pip configuration (an index of their own, a proxy); uv would not.
nox.options.default_venv_backend = "virtualenv"
nox.options.reuse_venv = "yes"
nox.options.error_on_external_run = True
# What is compiled is kept: hundreds of processes of one run import the same modules. Of what is installed most is never
# imported, so that it is compiled where it is.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
os.environ["PIP_NO_COMPILE"] = "1"
nox.options.sessions = ["everything"]

VERSIONS: Final = ("3.11", "3.12", "3.13", "3.14")
PROCESSORS: Final = os.cpu_count() or 1
PYPROJECT: Final = Path("pyproject.toml")
MEMORY: Final = Path("/dev/shm")
# What the folder of a run is called there.
IN_MEMORY: Final = "imapipe-tests-"
# Mail, databases and checkpoints of all tests: 1.2 GB at the same time, on 2 processors.
ROOM_BYTES: Final = 4 << 30
# What needs no Dovecot and no PostgreSQL, is not slow and measures no growth; a few cases and examples of each test
# (tests/cases.py), for they are not what differs. An assertion that fails is not explained: that would cost more than
# to run them.
FAST: Final = (
    "-q",
    "-m",
    "not slow and not dovecot and not postgres and not no_cover",
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
    """Do several works at the same time; what each gives is told when it is done, and the session fails if one did.

    Of more works than may be done at once, the first ones begin.
    """

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


@contextmanager
def files_in_memory() -> Iterator[None]:
    """Put temporary files into memory, where there is room for them: what is gone in the end no disk has to write.

    Tests that say what is durable count on the calls that make it so, and not on a disk.
    """
    remove_abandoned(MEMORY)
    if not has_room(MEMORY, ROOM_BYTES):
        yield
        return
    made = Path(tempfile.mkdtemp(prefix=f".{IN_MEMORY}", dir=MEMORY))
    lock = os.open(made, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    # It has this name only when it is locked: another run takes none for abandoned that has just been made.
    folder = made.rename(made.with_name(made.name.removeprefix(".")))
    # Servers have accounts of their own, and pass through.
    folder.chmod(0o711)
    before = os.environ.get("TMPDIR")
    os.environ["TMPDIR"] = str(folder)
    try:
        yield
    finally:
        os.environ.pop("TMPDIR") if before is None else os.environ.update(TMPDIR=before)
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def remove_abandoned(memory: Path) -> None:
    """Remove what runs left that were killed. A lock ends with its process, so whose folder has none is no more."""
    for folder in memory.glob(f"{IN_MEMORY}*"):
        # It is another user's, or was removed meanwhile.
        with suppress(OSError):
            lock = os.open(folder, os.O_RDONLY)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)


def has_room(folder: Path, size: int) -> bool:
    """Whether a folder in memory has room for so many bytes of files and programs."""
    try:
        is_for_programs = not os.statvfs(folder).f_flag & os.ST_NOEXEC
        free = re.search(r"^MemAvailable: *([0-9]+) kB", Path("/proc/meminfo").read_text(), re.MULTILINE)
        return is_for_programs and min(shutil.disk_usage(folder).free, int(free[1]) << 10 if free else 0) >= size
    except OSError:
        return False


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
def everything(session: nox.Session) -> None:
    """Do all that follows, the tests beside the other checks; they are seen as they run, the others when they end."""

    def check(name: str, *, silent: bool = True) -> str:
        said = session.run(sys.executable, "-m", "nox", "--session", name, external=True, silent=silent)
        return f"\n{str(said).strip()}" if silent else "passed"

    # The longest first.
    names = ("pythons", "package", "docs", "types", "lint")
    works = {"tests": partial(check, "tests", silent=False), **{name: partial(check, name) for name in names}}
    with files_in_memory():
        side_by_side(session, works, at_once=max(2, PROCESSORS))


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
    # Not where the tests look around meanwhile.
    built = Path(".nox/docs")
    shutil.rmtree(built, ignore_errors=True)

    # One after the other: what the first has read, the second need not read again.
    for builder in ("html", "doctest"):
        # The theme of the site makes the whole tree of names for each page, which takes longer than all the rest.
        options = ("--doctree-dir", f"{built}/doctrees", "--define", "html_theme=basic", "--builder", builder)
        run(
            session,
            "sphinx-build",
            "--fail-on-warning",
            "--keep-going",
            "--quiet",
            *options,
            "docs",
            f"{built}/{builder}",
        )
    run(session, "python", "tools/check_site.py", "docs", f"{built}/html")


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
    # One more than there are processors: half of the tests wait for a timer or for another process.
    run(session, "pytest", *in_processes(PROCESSORS + 1), "--trace-tests")
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
        # In one process each: a second one would collect all tests once more.
        return run_quietly(session, python, "-m", "pytest", *FAST, *places)

    side_by_side(session, {f"Python {version}": partial(test, version) for version in found})


@nox.session(requires=["dev"], reuse_venv=False)
def package(session: nox.Session) -> None:
    """Build the sdist, and the wheel from it; check both; test the wheel where there is no checkout."""
    folder = Path(session.create_tmp()).resolve()
    built, copy = folder / "dist", folder / "copy"
    for old in (built, copy):
        shutil.rmtree(old, ignore_errors=True)
    run_quietly(session, program("python"), "-m", "build", "--outdir", str(built))
    files = sorted(map(str, built.iterdir()))
    run(session, "twine", "check", "--strict", *files)
    session.install("--quiet", *(f"{file}[cli]" for file in files if file.endswith(".whl")))
    for name in ("tests", "tools"):
        shutil.copytree(name, copy / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(PYPROJECT, copy)
    # What tests need is there already. Its imapipe is a link in a .pth file, which does not count on this path.
    of_the_tests = next(python_of("dev").parents[1].glob("lib/python*/site-packages"))
    session.chdir(copy)
    alone, beside = {"PYTHONPATH": None}, {"PYTHONPATH": str(of_the_tests)}
    # With nothing but what the wheel asks for.
    session.run("imapipe", "demo", env=alone, silent=True)
    where = "import imapipe, sys; sys.exit(not imapipe.__file__.startswith(sys.prefix) and imapipe.__file__)"
    session.run("python", "-c", where, env=beside)
    session.run("python", "-m", "pytest", *FAST, *OF_THE_WHEEL, env=beside)


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
    """Export 20,000 messages to every format and back, copy and change them, over kills, on both servers: `-- 5000`.

    And 200,000 messages on three workers of a cluster that are troubled all the time.
    """
    count = session.posargs[0] if session.posargs else "20000"
    places = [f"tests/sinks/test_{name}.py" for name in ("round_trip", "memory", "kill", "copy_kill", "storms")]
    places += [f"tests/integration/test_changes_{name}.py" for name in ("at_size", "killed")]
    places += ["tests/integration/test_after_on_dovecot.py"]
    places += ["tests/pipeline/operation/test_storms.py", "tests/pipeline/after/test_storms.py"]
    places += ["tests/pipeline/operation/test_remainders.py::test_many_come_through_a_bad_line_on_four_connections"]
    places += [f"tests/contrib/test_{name}.py" for name in ("examples", "load")]
    places += ["tests/examples/test_cluster.py", "tests/cluster_simulation/test_check.py"]
    places += ["tests/examples/test_recipes.py", "tests/testing/test_providers.py"]
    places += ["tests/cluster/test_processes.py"]
    places += ["tests/store/sql/test_leases.py"]
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
