"""How much each layer suffers from few bits: the measures, and how far they agree."""
