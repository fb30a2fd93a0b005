"""The one exception that a user is meant to see."""


class UserError(Exception):
    """Something the user can cure: printed as one `error: ...` line, exit code 2, no traceback."""
