"""From metric values to pages: scores, ``report.json``, and HTML reports of one run or of several.

Nothing here reads imagery or runs a network: values and thumbnails come from the caller. Figures
are SVG that the templates draw from plain geometry, not plots from a plotting library. That costs a
little arithmetic, and buys figures that follow the reader's light or dark theme, stay sharp in
print, carry real text and tooltips, and keep a whole report within one small file.
"""
