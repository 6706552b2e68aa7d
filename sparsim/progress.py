"""The progress bar: a widget where a notebook can show one, text elsewhere, and no word about which it is."""

from __future__ import annotations

import warnings

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # a notebook without widgets falls back to text
    from tqdm.auto import tqdm

__all__ = ["tqdm"]
