"""A user of the library without the extra imports nothing of it, and is told what is missing where it is asked for."""

from __future__ import annotations

import subprocess
import sys

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
