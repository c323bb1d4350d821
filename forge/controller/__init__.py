"""The controller: keeps the broker equal to the rows. One loop a file, one leader at a time."""
