"""What Envoy refuses: the last good configuration stays, everything else flows on, and the author is told."""

from __future__ import annotations
