"""Every error that a user can cause, as one tree.

    TwinspireError              the message is one clear line that says what to do
    ├── ConfigError             a config file, a named config or a --set
    ├── DatasetError            a table, a column or a row of the input
    ├── BundleError             a bundle that is missing, damaged or does not fit
    ├── RegistryError           a registered model, version or alias that is not there or cannot be
    ├── ExperimentError         an experiment's file, or events that cannot answer it; names the key
    ├── RequestError            a search request; carries the field it is about
    └── EnvironmentProblem      a port, a device or a service that is not to be had

The command line prints `error: <message>` and exits with 2; the HTTP API answers 4xx. A traceback is a defect of ours.
"""


class TwinspireError(Exception):
    """Base of all errors that are the user's to mend. The message is one line."""


def first_line(error: BaseException) -> str:
    """The first line of another library's message, for the end of ours; its kind where it has none."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


class ConfigError(TwinspireError):
    """A config that cannot be used; names the key."""


class DatasetError(TwinspireError):
    """Input data that cannot be used; names the table, the column and, where there is one, the row."""


class BundleError(TwinspireError):
    """A bundle that is refused; names the file and the reason."""


class RegistryError(TwinspireError):
    """A registered model, version or alias that is not there or cannot be; names those that there are."""


class ExperimentError(TwinspireError):
    """An experiment's file that cannot be used, or events that cannot answer it; names the file and the key."""


class RequestError(TwinspireError):
    """A request that cannot be answered.

    `field` is the path of the offending field in the request, such as `user.history[2].event`.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message


class EnvironmentProblem(TwinspireError):
    """Something outside the data and the config: a port in use, no GPU, a server that does not answer."""
