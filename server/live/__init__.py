"""A live voice's side of the station: the client that `loa live` is."""
