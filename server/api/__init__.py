"""The HTTP face of the station, and the control sessions."""
