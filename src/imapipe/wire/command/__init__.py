"""Commands as they are sent: one encoder, and one small file for each command, named after its grammar production."""
