"""What changed in a mailbox since the last look: `Mailbox.changes`."""
