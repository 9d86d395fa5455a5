"""The run: plan, lanes, ledger, acknowledgement, cancellation, report."""
