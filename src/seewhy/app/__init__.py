"""`seewhy app`: a page in the browser for trying things by hand on a study's images.

Streamlit stays in `page.py` and the files it draws with (`choose.py`, `tab_*.py`); what they show is worked out in the
others, which are plain Python.
"""
