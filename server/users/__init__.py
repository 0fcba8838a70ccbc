"""Who people are: users and their passwords, one-time codes, tokens and sessions."""
