"""Infrastructure of passes: manager, rewriter, options, tasks; no pass in here."""
