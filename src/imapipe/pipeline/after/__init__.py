"""What follows a message: a change of it in its mailbox, once its handler succeeded or failed."""
