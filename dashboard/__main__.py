"""``python -m dashboard FLAGS``: Streamlit's server on the pages, with their modules imported before it listens.

Streamlit alone would import them, plotly and scipy among them, while the first reader waits.
"""

from __future__ import annotations

import importlib
import logging
import pkgutil
import sys
from pathlib import Path


def main() -> None:
    """Import every page, then serve them; the flags are Streamlit's."""
    from streamlit import logger
    from streamlit.web import cli

    from dashboard import views

    logger.set_log_level(logging.ERROR)  # "no runtime found": there is none yet
    for page in pkgutil.iter_modules(views.__path__):
        importlib.import_module(f"dashboard.views.{page.name}")
    importlib.import_module("plotly.graph_objects").Figure().to_plotly_json()
    logger.set_log_level(logging.WARNING)
    sys.argv = ["streamlit", "run", str(Path(__file__).with_name("app.py")), *sys.argv[1:]]
    sys.exit(cli.main())


if __name__ == "__main__":
    main()
