"""One line: where, what, and what to do."""

import pytest

from rsdl.core import errors
from rsdl.core.errors import (
    AbsentPeerError,
    ConfigError,
    ConfigErrors,
    FullDiskError,
    InputError,
    NoGpuError,
    PreemptedError,
    RsdlError,
    UnreachableClusterError,
    UnreachableError,
)


def test_an_error_is_one_line():
    error = ConfigError("data.url", "no manifest\n at ./x", "make one")
    assert str(error) == "data.url: no manifest at ./x; make one"
    assert str(RsdlError("run", "stopped")) == "run: stopped"


def test_several_errors_are_a_line_each():
    several = ConfigErrors([ConfigError("a", "is wrong"), ConfigError("b", "is wrong", "mend it")])
    assert str(several) == "a: is wrong\nb: is wrong; mend it"


@pytest.mark.parametrize(
    "kind", [k for k in vars(errors).values() if isinstance(k, type) and issubclass(k, RsdlError)]
)
def test_exit_codes_follow_the_tree(kind: type[RsdlError]):
    expected = 2 if issubclass(kind, InputError) else 75 if issubclass(kind, PreemptedError) else 1
    # Nothing is wrong with the input: later, or elsewhere, it may do.
    if kind in (UnreachableError, UnreachableClusterError, FullDiskError, NoGpuError):
        expected = 69
    elif kind is AbsentPeerError:
        expected = 75
    assert kind.exit_code == expected
