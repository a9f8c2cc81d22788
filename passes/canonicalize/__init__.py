"""imported -> canonical: one graph, whatever the model's author or exporter wrote."""
