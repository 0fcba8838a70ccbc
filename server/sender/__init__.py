"""Sender: datagrams from the ring to their destinations, and the time to whoever asks."""
