"""Sound into frames and back: no sockets, no clocks, no policy."""
