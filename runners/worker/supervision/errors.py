"""What can go wrong when a program is supervised."""


class SupervisionError(Exception):
    """A program could not be started, or its supervisor died; the text says which and why."""


class TooLateError(SupervisionError):
    """The time by which the program had to start had passed: nothing ran."""


class RequestNotTakenError(SupervisionError):
    """The fork server went away before a supervisor existed: nothing ran, asking again is safe."""
