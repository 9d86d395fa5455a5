"""Putting messages into a mailbox, as a job with limits, retry and a report."""
