"""The station's media clock, learnt from afar."""
