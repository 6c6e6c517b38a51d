"""The table contract: schemas, row checks with a quarantine, and the reader that everything starts from."""

from twinspire.dataset import schema
from twinspire.dataset.reader import Dataset, read
from twinspire.dataset.report import BadRowsError, Cast, LogReport, Report, TableReport

__all__ = ["BadRowsError", "Cast", "Dataset", "LogReport", "Report", "TableReport", "read", "schema"]
