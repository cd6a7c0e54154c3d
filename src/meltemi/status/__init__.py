"""What became of users' objects, written back onto them: conditions, messages and events."""
