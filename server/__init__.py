"""The station: decides who hears what; never touches a sample outside the producer."""
