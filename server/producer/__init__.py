"""Producer: PCM from live sources in, sealed and signed RTP datagrams out. Plain threads."""
