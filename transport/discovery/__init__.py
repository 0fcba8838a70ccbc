"""Who is there: stations and loudspeakers as multicast DNS tells of them (RFC 6762, RFC 6763).

Bytes in, values out; the packets' shape is python-zeroconf's. Everything works by address too.
"""
