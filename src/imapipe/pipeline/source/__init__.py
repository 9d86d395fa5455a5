"""Sources: which messages a run is for."""
