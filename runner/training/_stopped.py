"""How an update, or an evaluation, is left in the middle."""


class Stopped(Exception):
    """The user asked to stop; what was begun since the last update is dropped."""
