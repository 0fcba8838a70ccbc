"""From packets in any order to samples in step."""
