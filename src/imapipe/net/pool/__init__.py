"""The pool of connections of an account."""
