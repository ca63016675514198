"""Pictures that the project draws itself: people on backgrounds, with their key points."""
