"""The one exception that people are meant to see."""


class UserError(Exception):
    """Something the user can put right. The message is one line: what is wrong and what to do."""
