"""Gateway: what the ring holds, over WebSockets, to loudspeakers that no UDP reaches."""
