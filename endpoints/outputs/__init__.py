"""Where sound goes: each output pulls the player by its own clock."""
