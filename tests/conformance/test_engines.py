"""Every engine passes the published suite."""

from pattern_db.testing.suite import *  # noqa: F403
