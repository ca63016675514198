"""Other projects' functions, timed beside ours."""
