"""The edge of transport: sockets and kernel time stamps."""
