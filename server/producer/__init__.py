"""Producer: PCM from live sources in, sealed-to-be RTP datagrams out. Plain threads."""
