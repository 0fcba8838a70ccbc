"""What is wrong with a key, told to a person in one line."""


class BadKey(ValueError):  # noqa: N818 - it names the thing, as MalformedPacket does
    """A key that cannot be used: our own misuse, or a broken file; never bytes of the network."""
