"""Zones: named sets of loudspeakers, said as units, tags, names, areas or other zones."""
