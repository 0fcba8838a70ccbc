"""The verbs of `loa` that belong to the station."""
