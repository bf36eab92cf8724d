"""What goes wrong for a user, by kind. A message says what is wrong, the value found, the valid ones, what to do."""


class UserError(ValueError):
    """Base of all errors that a user can cause and mend; shown as one message, without a traceback."""


class ConfigError(UserError):
    """A configuration value is unknown, of the wrong type, out of range or in conflict with another one."""


class DataError(UserError):
    """A data file is missing, truncated, of the wrong format or not the one that was asked for."""


class RequirementError(UserError):
    """A strategy needs something that the model, the data or the optimizer does not offer."""


class RunDirectoryError(UserError):
    """A run directory cannot be created, written, read or resumed."""


class BusyRunError(RunDirectoryError):
    """Another process works on the run."""


class NonFiniteError(UserError):
    """A loss, gradient or task weight is NaN or infinite. Raised before any parameter is touched."""

    def __init__(self, message: str, tasks: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.tasks = tasks
