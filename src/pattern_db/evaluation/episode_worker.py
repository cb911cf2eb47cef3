"""A process that asks folds; see ``episode_jobs``."""

import sys

from pattern_db.evaluation.episode_jobs import serve

if __name__ == "__main__":
    serve(sys.stdin.buffer, sys.stdout.buffer)
