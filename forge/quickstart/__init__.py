"""The quick start: a whole Forge on one machine, from one command, for trying it out."""
