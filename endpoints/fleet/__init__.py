"""Thousands of loudspeakers in one process: sessions, time and ways for real, no sound."""
