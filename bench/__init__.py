"""Measurements of the whole, and the tools that measure."""
