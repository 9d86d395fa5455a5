"""All mailboxes of an account as one job: which of them, what is new in them, one report."""
