from __future__ import annotations

import pytest

from sidestep.address import url_of


@pytest.mark.parametrize(
    ("host", "wanted"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("somewhere", "http://somewhere:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::1", "http://[::1]:80"),
        ("::", "http://[::1]:80"),
    ],
)
def test_an_address_is_one_that_opens_here(host: str, wanted: str) -> None:
    assert url_of(host, 80) == wanted
