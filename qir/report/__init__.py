"""What a compile did, as data and in the terminal."""
