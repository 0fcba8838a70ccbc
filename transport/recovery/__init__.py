"""What is lost on the way comes a second time: copies ahead of need, and repairs when asked."""
