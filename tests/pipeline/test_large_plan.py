"""A plan over half of two million UIDs at random, from one SEARCH line, costs little memory and nothing per UID."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from imapipe.pipeline.batching import FixedBatch
from imapipe.pipeline.plan import Plan
from imapipe.wire.response.response import Search, parse_response

# In a process of its own: what other tests needed would hide what this one does.
_MEASURE = """
import sys
from pathlib import Path
from imapipe.pipeline.batching import FixedBatch
from imapipe.pipeline.plan import Plan
from imapipe.wire.response.response import parse_response

def peak():
    # Not getrusage: its peak is inherited from the parent.
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return int(line.split()[1]) * 1024

line = Path(sys.argv[1]).read_bytes()
before = peak()
plan = Plan(parse_response(line, ()).uids)
plan.next_batch(FixedBatch(1000).sizer(), 0)
print(peak() - before)
"""


@pytest.fixture(scope="module")
def search_line() -> bytes:
    chosen = random.Random(1).sample(range(1, 2_000_001), 1_000_000)
    chosen.sort()
    return b"* SEARCH " + b" ".join(b"%d" % uid for uid in chosen)


@pytest.mark.slow
@pytest.mark.no_cover
@pytest.mark.skipif(sys.platform != "linux", reason="the peak is read from /proc")
def test_a_plan_of_a_million_uids_at_random_takes_less_than_64_mb(search_line: bytes, tmp_path: Path) -> None:
    path = tmp_path / "line"
    path.write_bytes(search_line)
    done = subprocess.run([sys.executable, "-c", _MEASURE, str(path)], check=True, capture_output=True, text=True)
    # Less than nothing would mean that nothing was measured.
    assert 4_000_000 < int(done.stdout) < 64_000_000


@pytest.mark.slow
def test_it_is_given_out_whole_in_batches_that_fit_a_command(search_line: bytes) -> None:
    answer = parse_response(search_line, ())
    assert isinstance(answer, Search)
    plan = Plan(answer.uids)
    sizer = FixedBatch(1000).sizer()
    count = longest = last = 0
    while (batch := plan.next_batch(sizer, 0)) is not None:
        assert batch.uids.min > last
        last = batch.uids.max
        count += len(batch)
        longest = max(longest, len(batch.uids.text()))
    assert count == len(plan.planned) == 1_000_000
    assert longest <= 8000
