"""Values: what passes between the layers, and what a user holds in the hand."""
