"""What is known of a mailbox between runs: cached searches and a local index."""
