"""The sans-IO half of IMAP (RFC 9051): bytes to values and back, with the standard library only."""
