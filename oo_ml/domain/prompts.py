"""Lists of prompt versions."""


def parse_versions(configured: str) -> list[str]:
    """Return the prompt versions in a comma-separated list. A version that is listed twice has twice the weight."""
    return [version for entry in configured.split(",") if (version := entry.strip())]
