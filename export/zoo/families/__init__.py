"""One file a family; each has `entries()`, and `find.models` finds the files by itself."""
