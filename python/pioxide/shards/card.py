"""The card of a token directory, README.md: what its manifest says, for people, and where its rows are.

Hugging Face's `datasets` and hub read the header. The same manifest gives the same text, whichever machines
made the shards: no date, no path.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

CARD = "README.md"
# Instructions that are listed; the manifest has all.
SHOWN = 20


def token_card(manifest: Mapping[str, Any]) -> str:
    """Returns the card of a complete directory in Markdown.

    Args:
        manifest: What `manifest.json` holds.
    """
    model, dataset, totals = manifest["contract"]["model"], manifest["dataset"], manifest["totals"]
    tasks = list(dataset["tasks"].values())
    skipped = [one for shard in manifest["shards"] for one in shard["skipped"]]
    rows = {
        "model": f"`{model}`",
        "rows, one a frame": f"{totals['rows']:,} of {totals['episodes']:,} episodes",
        "tokens": f"{totals['tokens']:,}",
        "action tokens among them": f"{totals['action_tokens']:,}" if totals["action_tokens"] else None,
        "longest prompt before it is cut": f"{totals['longest']:,} tokens",
        "rows that were cut": f"{totals['truncated']:,}",
        "values without a token, clipped": f"{totals['clipped']:,} in {totals['clipped_rows']:,} rows",
        "episodes left out": f"{len(skipped):,}" if skipped else None,
        "robot": _code(dataset["robot_type"]) if dataset["robot_type"] else None,
        "frames a second": f"{dataset['fps']:g}",
        "made of": f"{_code(dataset['name'])}, LeRobot {_code(dataset['version'])}",
        "made by": f"pioxide {manifest['versions']['pioxide']}",
    }
    header = ["---", "task_categories:", "- robotics", "tags:", "- pioxide", f"- {model}", "configs:"]
    header += ["- config_name: default", "  data_files: shards/*.parquet", "---"]
    shown = [f"- {_code(task)}" for task in tasks[:SHOWN]]
    if len(tasks) > SHOWN:
        shown.append(f"- and {len(tasks) - SHOWN:,} more, in manifest.json")
    parts = [
        "\n".join(header),
        f"# Training tokens of {_code(dataset['name'])}",
        "\n".join(["| | |", "|---|---|", *(f"| {name} | {said} |" for name, said in rows.items() if said)]),
        '`pioxide.shards.TokenDataset.open(DIRECTORY)` reads it (`pip install "pioxide[data]"`), and so does '
        "`datasets.load_dataset(DIRECTORY)`. `contract.json` says what the numbers mean, `norm_stats.json` "
        "by what they were normalised, `manifest.json` what each shard holds, with its SHA-256.",
        "## Numbers",
        f"State: {_listed(dataset['state_names'])}\n\nActions: {_listed(dataset['action_names'])}",
        "## Instructions",
        "\n".join(shown) if shown else "None.",
        "## Licence",
        "That of the dataset that it was made of, which pioxide neither reads nor checks.",
    ]
    return "\n\n".join(parts) + "\n"


def _listed(names: list[str]) -> str:
    return ", ".join(map(_code, names)) if names else "without names."


def _code(text: str) -> str:
    """A text of others on one line, in which nothing is markup."""
    plain = " ".join(text.split()).replace("`", "'").replace("|", "¦")
    return f"`{plain or ' '}`"
