"""Datasets of contexts, and of what is known about them: initial outputs, feedback, references."""

from ilf_common.datasets.reader import Dataset, open_dataset
from ilf_common.datasets.schema import ColumnMap, DatasetRow, RowError
from ilf_common.datasets.unique import DiskSet

__all__ = ["ColumnMap", "Dataset", "DatasetRow", "DiskSet", "RowError", "open_dataset"]
