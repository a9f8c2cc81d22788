"""Networks made less deep: what they lose, and how long they take."""
