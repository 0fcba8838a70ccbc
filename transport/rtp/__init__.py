"""RTP and RTCP (RFC 3550), Opus payload (RFC 7587), SDP (RFC 8866) and SAP (RFC 2974)."""
