"""The content of a web page without menus, notices and footers, as trafilatura finds it."""

from weldlm.data.cleaning.steps import TextStep
from weldlm.extra_packages import require_extra

__all__ = ["extract_content"]


def extract_content() -> TextStep:
    """Returns a step from HTML to text; a page without content is none.

    Raises:
        ModuleNotFoundError: trafilatura is not installed.
    """
    library = require_extra("trafilatura", "data", "an HTML file")

    def extract(page: str) -> str | None:
        text: str | None = library.extract(page, include_comments=False)
        return text

    return extract
