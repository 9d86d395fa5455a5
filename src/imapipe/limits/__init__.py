"""Limits as middleware: rates, fixed and found, and budgets of bytes."""
