"""Errors that a user can cause, as one exception tree.

Each message says what was found, what is allowed and what to do.
"""


class RecsysError(Exception):
    """Base of every error raised on purpose by this package."""

    exit_code = 1
    """Of a command that ends with it."""


class ConfigError(RecsysError):
    """A configuration file, override or option is wrong."""


class DataError(RecsysError):
    """Input data is missing, malformed or empty."""


class ChecksumError(DataError):
    """A file differs from its recorded checksum."""


class DownloadError(DataError):
    """A file could not be fetched."""


class RunError(RecsysError):
    """A run folder or checkpoint is missing, incomplete or of another kind."""


class BusyError(RecsysError):
    """Another process is writing to the same folder."""


class ProtocolError(RecsysError):
    """Figures of different evaluation protocols would be mixed."""


class GranularityError(RecsysError):
    """The requested granularity does not exist."""


class InstallationError(RecsysError):
    """An installed package is missing or does not fit the others."""


class StoreError(RecsysError):
    """A vector store refuses, does not answer, or holds something else than was written."""


class GateError(RecsysError):
    """A new version of a bundle is not good enough to be published."""

    exit_code = 3
