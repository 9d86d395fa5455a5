"""Reading what a server sends: framing, tokens, and one file for each family of responses."""
