"""Frames into packets and back; pure but for `transport.net`."""
