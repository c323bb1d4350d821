"""What can go wrong when a program is supervised."""


class SupervisionError(Exception):
    """A program could not be started, or its supervisor died; the text says which and why."""


class TooLateError(SupervisionError):
    """The time by which the program had to start had passed: nothing ran."""


class HostError(SupervisionError):
    """This host can start no program at the moment, whichever it is: nothing ran."""


class RequestNotTakenError(SupervisionError):
    """The fork server went away before a supervisor existed: nothing ran, asking again is safe."""


class SupervisorLostError(SupervisionError):
    """The supervisor died after it was told to start the program, which may have run.

    output: what the program had written, as far as the pipe held it. is_whole: whether all of it
    was read, which is to say that nothing is left that could write more.
    """

    output = b""
    is_whole = False
