"""Layers around the fetching of a batch: progress, metrics, checkpoint, retry, rate limit."""

from __future__ import annotations

from imapipe.middleware.adaptive_rate_limit import AdaptiveRateLimit
from imapipe.middleware.base import Call, Ledger, Middleware, Plan, Run, chain, check_order
from imapipe.middleware.byte_budget import ByteBudget
from imapipe.middleware.checkpoint import Checkpoint
from imapipe.middleware.metrics import Metrics, MetricsSnapshot
from imapipe.middleware.open_telemetry import OpenTelemetry
from imapipe.middleware.progress import Progress, ProgressSnapshot
from imapipe.middleware.rate_limit import RateLimit
from imapipe.middleware.retry import Retry
from imapipe.middleware.transient import Verdict, is_transient

__all__ = [
    "AdaptiveRateLimit",
    "ByteBudget",
    "Call",
    "Checkpoint",
    "Ledger",
    "Metrics",
    "MetricsSnapshot",
    "Middleware",
    "OpenTelemetry",
    "Plan",
    "Progress",
    "ProgressSnapshot",
    "RateLimit",
    "Retry",
    "Run",
    "Verdict",
    "chain",
    "check_order",
    "is_transient",
]
