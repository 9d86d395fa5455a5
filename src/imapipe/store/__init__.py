"""Where checkpoints are kept between runs."""
