"""A look at an account and its server: what they are, what a job can expect of them, and what looks wrong.

    examination = await imapipe.doctor.examine(pool)
    print(examination.table())

The command `imapipe doctor` shows the same.
"""

from __future__ import annotations

from imapipe.doctor.examination import Examination, Extension, Finding, MailboxSize, QuotaLimit, Sample, Tls
from imapipe.doctor.examine import examine

__all__ = [
    "Examination",
    "Extension",
    "Finding",
    "MailboxSize",
    "QuotaLimit",
    "Sample",
    "Tls",
    "examine",
]
