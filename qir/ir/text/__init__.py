"""The text form of graphs: lexer, parser, printer, files."""
