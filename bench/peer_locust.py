"""What Locust runs in the comparison: its fast client, one GET after another, no pause. Not for import by us."""

import os

from locust import FastHttpUser, constant, task  # type: ignore[import-not-found]

PATH = os.environ["BENCH_PATH"]


class Visitor(FastHttpUser):  # type: ignore[misc]
    """One user."""

    wait_time = constant(0)

    @task  # type: ignore[untyped-decorator]
    def get(self) -> None:
        """One request."""
        self.client.get(PATH)
