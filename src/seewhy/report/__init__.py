"""A study's results as a folder of static HTML."""

from seewhy.report.build import build_report
from seewhy.report.results import About, Extent, PhotoResults, ProbeResults, TextResults, plain_word
from seewhy.report.verdict import Verdict

__all__ = [
    "About",
    "Extent",
    "PhotoResults",
    "ProbeResults",
    "TextResults",
    "Verdict",
    "build_report",
    "plain_word",
]
