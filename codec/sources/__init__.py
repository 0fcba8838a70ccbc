"""Where sound comes from: each source yields 48 kHz blocks."""
