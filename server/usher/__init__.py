"""Usher: tells loudspeakers the time, notes where they are, hears reports, announces streams."""
