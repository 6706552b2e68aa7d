"""What several tests ask in the same words."""

import pytest

from sparsim.errors import InputError


def refused(call, *words, kind=InputError):
    """Demand one line of error that names every one of ``words``."""
    with pytest.raises(kind) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    for word in words:
        assert word in text
