"""Long checks as commands, `python -m tests.stress NAME COUNT`; the tests run a small sample."""
