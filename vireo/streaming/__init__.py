"""Watching a video frame by frame: the conversation, its memory, the plain and the fast engine."""
