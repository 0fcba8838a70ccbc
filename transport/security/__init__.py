"""Who may speak: keys and certificates, the proofs of a session, enrolment, and the sealed sound.

Nothing here opens a socket, reads a clock or draws randomness: seeds and nonces are arguments. What
comes from outside and does not hold raises `MalformedPacket`; our own misuse is a `ValueError`.
"""
