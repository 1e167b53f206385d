"""Brings what pioxide does not ship to a cache: PaliGemma's text model, the published FAST tokenizer.

Local paths and file:// need nothing; gs://, hf://, s3:// and https:// need `pip install "pioxide[fetch]"`.
"""

from pioxide.fetch.assets import ASSETS, Asset, Fetched, cache_directory, fetch_asset, text_model
from pioxide.fetch.download import Downloaded, download, open_filesystem

__all__ = [
    "ASSETS",
    "Asset",
    "Downloaded",
    "Fetched",
    "cache_directory",
    "download",
    "fetch_asset",
    "open_filesystem",
    "text_model",
]
