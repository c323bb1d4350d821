"""What pages and REST API both list: rows, filters and files, and nothing of how they look."""
