"""The journal of a change: what was meant, what came of it, and what was before."""
