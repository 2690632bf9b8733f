"""The command line. `optimas --help` loads neither the method nor any model library."""

from __future__ import annotations

import sys
import traceback


def main() -> None:
    """Entry point: runs a command; our errors become one sentence and their exit code.

    Exit codes: 0 done; 1 failed; 2 bad input; 3 a budget cap was reached; 4 another process holds the run; 130 interrupted.
    """
    from optimas_core._keyless import keyless_output
    from optimas_core.cli._app import app
    from optimas_core.errors import OptimasError

    with keyless_output():
        try:
            app()
        except OptimasError as error:
            print(f"optimas: {error}", file=sys.stderr)
            raise SystemExit(error.exit_code) from None
        except BrokenPipeError:
            raise SystemExit(0) from None
        except KeyboardInterrupt:
            print("optimas: interrupted; `optimas resume` goes on from here.", file=sys.stderr)
            raise SystemExit(130) from None
        except Exception:  # a defect: shown here and not by Python, whose own traceback would show a user's key
            traceback.print_exc()
            raise SystemExit(1) from None


__all__ = ["main"]
