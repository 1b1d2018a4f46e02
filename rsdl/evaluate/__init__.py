"""Scores and HTML reports of one or several runs, from metric values and run records.

This package reads no imagery and runs no network: the caller passes values and thumbnails. The
templates draw figures as SVG from plain geometry, without a plotting library. That costs a little
arithmetic, but the figures follow the reader's light or dark theme, stay sharp in print, contain
real text and tooltips, and keep a whole report within one small file.
"""
