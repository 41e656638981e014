"""The one exception for what the user can mend."""


class UserError(Exception):
    """Bad input or a setting that cannot work, told in one line: what, where, and the remedy.

    The command line prints it as ``error: ...`` without a traceback and exits with status 2.
    """
