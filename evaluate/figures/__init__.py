"""``evaluate figures``: pictures of a finished evaluation, each with its numbers as a table and a caption in sentences."""
