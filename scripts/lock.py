"""Write the lock files from pyproject.toml (needs uv: `pip install uv`)."""

import subprocess
import sys

COMMON = [
    "uv",
    "pip",
    "compile",
    "--universal",
    "--generate-hashes",
    "--no-emit-index-url",
    "--python-version",
    "3.11",
    "--custom-compile-command",
    "make lock",
    "--quiet",
]
BUILD = "hatchling\neditables\n"


EXTRAS = ["cohere", "fastembed", "ollama", "openai", "postgres", "surreal", "turso"]


def main() -> None:
    upgrade = sys.argv[1:]
    extras = [word for extra in EXTRAS for word in ("--extra", extra)]
    dev = ["pyproject.toml", *extras, "--group", "dev", "-o", "requirements-dev.lock"]
    subprocess.run([*COMMON, *upgrade, *dev], check=True)
    run = ["pyproject.toml", "-", "-c", "requirements-dev.lock", "-o", "requirements.lock"]
    subprocess.run([*COMMON, *upgrade, *run], input=BUILD, text=True, check=True)


if __name__ == "__main__":
    main()
