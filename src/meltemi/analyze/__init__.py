"""Analysis of a whole mesh: what is wrong with its objects together, in files, in a running mesh, or in both.

    snapshot.py    the objects, and what follows from them
    messages.py    every message, by Istio's code
    analyzers.py   the list of analyzers, and how they are run
    verdicts.py    what decoding, validation and the control plane say, under Istio's codes

The other modules hold the analyzers: pure functions from a snapshot to problems, whose `code` is that of a message.
"""
