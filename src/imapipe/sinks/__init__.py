"""Places to write messages to: Maildir, mbox, JSON Lines and others."""
