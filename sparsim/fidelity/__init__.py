"""How close does each model lie to published, measured or counted figures?

One room for each paper: its figures as data, and a generator of rows that holds the model against them. ``sparsim
validate`` prints the rows; only those held against published, measured or author-code figures count as validated.
"""

from __future__ import annotations

from sparsim.fidelity.record import Row
from sparsim.fidelity.validation import PAPERS, Validation, validate

__all__ = ["PAPERS", "Row", "Validation", "validate"]
