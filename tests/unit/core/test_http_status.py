import pytest

from rsdl.core.http_status import is_temporary


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 520])
def test_a_busy_or_faulty_server_is_asked_again(status: int):
    assert is_temporary(status)


@pytest.mark.parametrize("status", [0, 301, 400, 401, 403, 404, 410, 416, 451])
def test_a_refusal_is_final(status: int):
    assert not is_temporary(status)
