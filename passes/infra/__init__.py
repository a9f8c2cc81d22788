"""What every pass is built on: manager, rewriter, options, tasks, case files; no pass in here."""
