"""The exception for errors that the user can fix."""


class UserError(Exception):
    """Bad input or an impossible setting. The message is one line: what is wrong, where, and what to do.

    The command line prints it as ``error: ...`` without a traceback and exits with status 2.
    """
