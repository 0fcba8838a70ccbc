"""The loudspeaker's station: how it is found, known again, joined and obeyed."""
