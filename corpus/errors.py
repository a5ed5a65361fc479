"""The exceptions that people are meant to see."""


class UserError(Exception):
    """Something the user can put right. The message is one line: what is wrong and what to do."""


class ItemError(UserError):
    """One item cannot be done. It is noted with its reason, and the work goes on with the next."""
