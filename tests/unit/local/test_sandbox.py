"""Why the kernel refused, told by its settings."""

from __future__ import annotations

import pytest

from meltemi.local.sandbox import refusal


@pytest.mark.parametrize(
    ("settings", "number", "expected"),
    [
        ({"user/max_user_namespaces": "0"}, 28, "sudo sysctl -w user.max_user_namespaces=15000"),
        ({"kernel/unprivileged_userns_clone": "0"}, 1, "sudo sysctl -w kernel.unprivileged_userns_clone=1"),
        (
            {"kernel/apparmor_restrict_unprivileged_userns": "1"},
            13,
            "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
        ),
        ({}, 1, "--security-opt seccomp=unconfined"),
        ({}, 12, "run it with sudo"),
    ],
)
def test_the_hint_names_what_would_change_it(settings: dict[str, str], number: int, expected: str) -> None:
    error = refusal(number, "Operation not permitted", settings.get)
    assert expected in error.hint
    assert "Operation not permitted" in str(error)
