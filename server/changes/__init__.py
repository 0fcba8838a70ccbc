"""What changes at the station, as it is told to whoever would otherwise ask again and again."""
