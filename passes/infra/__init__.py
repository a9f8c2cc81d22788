"""What every pass is built on: the manager, the rewriter, options, tasks, case files. No pass in here."""
