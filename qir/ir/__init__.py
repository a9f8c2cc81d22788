"""The language: types, values, ops, graphs, their text, their rules and their exact meaning."""
