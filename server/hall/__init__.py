"""A hall: holds loudspeakers' sessions that control has no descriptors for, and passes on words."""
