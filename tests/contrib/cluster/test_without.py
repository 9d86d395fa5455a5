"""A user of the library without the extra imports nothing of it, and is told what is missing where it is asked for."""

from __future__ import annotations

import subprocess
import sys
from importlib import import_module
from types import ModuleType

import pytest

from imapipe.contrib import cluster

PROGRAM = """
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"croniter", "procrastinate", "psycopg", "psycopg_pool"}:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
import imapipe, imapipe.cli.app, imapipe.cluster, imapipe.contrib.jobs, imapipe.contrib.models
for name in imapipe.__all__:
    getattr(imapipe, name)
assert not [name for name in sys.modules if name.startswith(("imapipe.contrib.cluster.worker", "procrastinate"))]
from imapipe.contrib.cluster import ClusterReport, Sizes
try:
    from imapipe.contrib.cluster import Cluster
except ModuleNotFoundError as error:
    print(error)
print(imapipe.cli.main(["jobs", "list", "--database", "postgresql://ann@127.0.0.1/mail"]))
"""


def test_without_the_extra_nothing_of_it_is_imported_and_what_is_missing_is_said() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    sentence = "a cluster needs an extra: pip install 'imapipe[cluster]'"
    assert (done.stdout, done.stderr) == (f"{sentence}\n2\n", f"imapipe: {sentence}\n")


def test_each_public_name_comes_when_it_is_first_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(cluster.__all__) <= set(dir(cluster))
    for name in cluster.__all__:
        monkeypatch.delitem(vars(cluster), name, raising=False)
        assert getattr(cluster, name).__name__.split(".")[-1] == name or name.endswith("State")
        assert name in vars(cluster)
    with pytest.raises(AttributeError, match="has no attribute 'Clutser'"):
        _ = cluster.Clutser  # type: ignore[attr-defined]


@pytest.mark.parametrize(("missing", "said"), [
    ("procrastinate.types", "a cluster needs an extra: pip install 'imapipe[cluster]'"),
    ("orjson", "No module named 'orjson'"),
])  # fmt: skip
def test_what_is_missing_is_named_and_a_defect_is_not_taken_for_it(
    monkeypatch: pytest.MonkeyPatch, missing: str, said: str
) -> None:
    def import_or_not(name: str) -> ModuleType:
        if name.startswith("imapipe.contrib.cluster."):
            raise ModuleNotFoundError(f"No module named {missing!r}", name=missing)
        return import_module(name)

    monkeypatch.delitem(vars(cluster), "Worker", raising=False)
    monkeypatch.setattr(cluster, "import_module", import_or_not)
    with pytest.raises(ModuleNotFoundError) as caught:
        _ = cluster.Worker
    assert (caught.value.msg, caught.value.name) == (said, missing)
