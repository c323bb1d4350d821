"""The processes outside the worker: fork server, supervisors, and a program before its exec.

They import little, to start fast and stay small, and nothing from outside this folder.
"""
