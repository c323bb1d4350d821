"""Real deployments for tests: Forge as its users start it, and clients that speak to it.

Nothing here imports Forge. A deployment is a quick start in a temporary folder, on free ports,
with shortened periods, and as many further runners as a test asks for.
"""
