"""Float against integers: networks of the zoo, language models, encoders."""
