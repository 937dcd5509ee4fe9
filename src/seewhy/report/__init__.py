"""A study's results as a folder of static HTML."""

from seewhy.report.build import build_report, plain_word
from seewhy.report.verdict import Verdict

__all__ = ["Verdict", "build_report", "plain_word"]
