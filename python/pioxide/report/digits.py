"""Numbers as a person writes them, for pages, terminals and pictures alike."""


def short(value: float, digits: int = 3) -> str:
    """Returns a number as a person writes it: three digits, no exponent between 0.0001 and a million."""
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        return f"{value:.{digits - 1}e}"
    text = f"{value:.{digits}g}"
    if "e" in text:
        text = f"{value:.0f}"
    return text
