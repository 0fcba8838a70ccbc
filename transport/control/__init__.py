"""The one vocabulary station and loudspeaker share."""
