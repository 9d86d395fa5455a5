"""What is measured: one module a client, each doing the same works with the ways its manual advises."""
