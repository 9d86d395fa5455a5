"""What runs beside a run: ticker, resource sampler, histograms, the event bus, lock files."""
