"""Which Pythons the tests run on: those of the right version that start, whatever their files are called."""

from __future__ import annotations

import os
from pathlib import Path

import noxfile
import pytest
from tests.cases import few_cases


def program(folder: Path, name: str, says: str) -> Path:
    folder.mkdir(exist_ok=True)
    path = folder / name
    path.write_text(f"#!/bin/sh\n{says}\n")
    path.chmod(0o755)
    return path


def test_the_first_that_works_is_taken_and_what_is_absent_left_out(tmp_path: Path) -> None:
    shims, first, second = tmp_path / "shims", tmp_path / "first", tmp_path / "second"
    program(shims, "python3.12", "echo 'no version is selected' >&2; exit 127")
    program(shims, "python3.13", "echo 3.11")
    good = program(first, "python3.12", "echo 3.12")
    program(second, "python3.12", "echo 3.12")
    (second / "python3.13").mkdir()
    not_executable = program(second, "python3.14", "echo 3.14")
    not_executable.chmod(0o644)
    folders = [tmp_path / "absent", shims, first, second]
    assert noxfile.interpreters(["3.11", "3.12", "3.13", "3.14"], folders) == {"3.12": good}


def test_they_are_looked_for_on_the_path_and_where_managers_keep_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / "pyenv/versions/3.12.1/bin", tmp_path / ".local/share/uv/python/cpython-3.13/bin"]
    for folder in folders:
        folder.mkdir(parents=True)
    monkeypatch.setenv("PATH", f"/one:{tmp_path}/two:")
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    monkeypatch.setenv("HOME", str(tmp_path))
    assert noxfile.usual_folders() == [Path("/one"), tmp_path / "two", *folders]


def test_the_classifiers_name_the_versions_that_are_tested() -> None:
    text = Path(noxfile.__file__).with_name("pyproject.toml").read_text(encoding="utf-8")
    named = [line.split(" :: ")[-1].strip('",') for line in text.splitlines() if "Python :: 3." in line]
    assert tuple(named) == noxfile.VERSIONS
    assert f'requires-python = ">={noxfile.VERSIONS[0]}"' in text


def test_an_environment_is_never_made_where_its_interpreter_came_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The `python` of an environment is a link; following it would put the environment over a Python of the machine."""
    environment, machine = tmp_path / ".nox/python-3.12", tmp_path / "machine"
    (environment / "bin").mkdir(parents=True)
    (environment / "bin/python").symlink_to(program(machine, "python3.12", "echo 3.12"))
    monkeypatch.chdir(tmp_path)
    assert noxfile.python_of("python-3.12").parents[1] == environment


def test_every_test_has_a_case_among_the_few() -> None:
    names = [
        "a.py::one",
        *(f"a.py::many[{number}]" for number in range(9)),
        "a.py::two[[]",
        "a.py::two[]]",
        "b.py::one",
    ]
    assert {0, *few_cases(names, 3)} == {0, 1, 5, 9, 10, 11, 12}
    assert [names[at] for at in sorted(few_cases(names))] == [
        "a.py::one",
        "a.py::many[0]",
        "a.py::many[8]",
        "a.py::two[[]",
        "a.py::two[]]",
        "b.py::one",
    ]


def test_temporary_files_are_in_memory_where_there_is_room_and_gone_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noxfile, "MEMORY", tmp_path)
    monkeypatch.setattr(noxfile, "ROOM_BYTES", 1)
    monkeypatch.setenv("TMPDIR", "before")
    with noxfile.files_in_memory():
        folder = Path(os.environ["TMPDIR"])
        assert folder.parent == tmp_path
        (folder / "mail").mkdir()
    assert (os.environ["TMPDIR"], [*tmp_path.iterdir()]) == ("before", [])
    monkeypatch.delenv("TMPDIR")
    with noxfile.files_in_memory():
        assert "TMPDIR" in os.environ
    assert "TMPDIR" not in os.environ
    for memory, room in ((tmp_path / "absent", 1), (tmp_path, 1 << 60)):
        monkeypatch.setattr(noxfile, "MEMORY", memory)
        monkeypatch.setattr(noxfile, "ROOM_BYTES", room)
        with noxfile.files_in_memory():
            assert "TMPDIR" not in os.environ


def test_what_a_killed_run_left_in_memory_goes_at_the_next_start_and_nothing_of_a_run_beside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(noxfile, "MEMORY", tmp_path)
    monkeypatch.setattr(noxfile, "ROOM_BYTES", 1)
    others = tmp_path / "imapipe-demo-1"
    left = tmp_path / f"{noxfile.IN_MEMORY}left" / "mail"
    for folder in (others, left):
        folder.mkdir(parents=True)
    with noxfile.files_in_memory():
        first = Path(os.environ["TMPDIR"])
        with noxfile.files_in_memory():
            second = Path(os.environ["TMPDIR"])
            assert {*tmp_path.iterdir()} == {others, first, second}
        assert {*tmp_path.iterdir()} == {others, first}
    assert {*tmp_path.iterdir()} == {others}


def test_a_folder_in_which_no_program_runs_has_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert noxfile.has_room(tmp_path, 1)
    of_the_folder = os.statvfs(tmp_path)

    class NoPrograms:
        f_flag = of_the_folder.f_flag | os.ST_NOEXEC

    monkeypatch.setattr("os.statvfs", lambda _: NoPrograms)
    assert not noxfile.has_room(tmp_path, 1)
