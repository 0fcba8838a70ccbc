"""The way that sound takes to a loudspeaker: its sockets, keep-alives, and the gateway."""
