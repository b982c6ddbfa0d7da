"""The model and the data: chosen from the lists, opened from a file, a folder or a link."""
