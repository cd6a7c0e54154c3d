"""Durations on the command line: `30s`, `2m`, or plain seconds."""

from __future__ import annotations

from typing import Any

import click


class Seconds(click.ParamType[float]):
    """A duration as seconds."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Reads it. Fails with a sentence fit for users."""
        if isinstance(value, (int, float)):
            return float(value)
        from meltemi.base.durations import parse_duration

        text = str(value)
        try:
            seconds = float(text) if text.replace(".", "", 1).isdigit() else parse_duration(text).total_seconds()
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if seconds < 0:
            self.fail(f"{text!r} is less than nothing", param, ctx)
        return seconds
