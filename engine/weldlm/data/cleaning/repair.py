"""Text that was decoded with a wrong encoding, mended by ftfy."""

from collections.abc import Callable

from weldlm.extra_packages import require_extra

__all__ = ["repair_text"]


def repair_text() -> Callable[[str], str]:
    """Returns a step that mends mojibake and leaves quotes, ligatures, widths and HTML alone.

    Raises:
        ModuleNotFoundError: ftfy is not installed.
    """
    ftfy = require_extra("ftfy", "data", "repair")
    config = ftfy.TextFixerConfig(
        unescape_html=False,
        fix_latin_ligatures=False,
        fix_character_width=False,
        uncurl_quotes=False,
        fix_line_breaks=False,
        remove_control_chars=False,
        normalization=None,
        explain=False,
    )

    def repair(text: str) -> str:
        mended: str = text if text.isascii() else ftfy.fix_text(text, config)
        return mended

    return repair
