"""Sender: datagrams from the ring to their destinations, each at its time, and nothing else."""
