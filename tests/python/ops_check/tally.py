"""Counts checks and says which failed."""

import traceback


class Tally:
    def __init__(self):
        self.passed, self.failed = 0, []

    def check(self, label, body):
        """What `body` returns; None where it raises an error, which fails this check alone."""
        try:
            result = body()
        except Exception as error:  # opcheck raises many kinds
            lines = [line for line in str(error).strip().splitlines() if line.strip()]
            self.fail(label, f"{type(error).__name__}: " + "\n    ".join(lines[:12]))
            if not lines:
                traceback.print_exc()
            return None
        self.passed += 1
        return result

    def fail(self, label, why):
        print(f"FAILED: {label}: {why}", flush=True)
        self.failed.append(label)
