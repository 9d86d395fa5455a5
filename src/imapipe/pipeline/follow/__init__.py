"""Following: what is in mailboxes, and then what arrives, until somebody ends it."""
