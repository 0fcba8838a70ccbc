"""One RTP stream's state at either end."""
